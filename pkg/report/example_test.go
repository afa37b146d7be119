package report_test

import (
	"fmt"
	"testing"

	"joulepipe/pkg/report"
	"joulepipe/pkg/report/reporttest"
)

func Example() {
	f := reporttest.New()
	f.Soak.State = "timeout"
	dir, err := f.FS() // os.DirFS("runs/20251225_190610") in a program
	if err != nil {
		fmt.Println(err)
		return
	}
	run, err := report.Read(dir, report.Default())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, u := range run.Uses {
		fmt.Printf("%s: %s\n", u.Title, u.Status)
	}
	for _, c := range run.Doubts() {
		fmt.Printf("%s: %s\n", c.ID, c.Reason)
	}
	// Output:
	// Energy of the whole run: validated
	// Mean energy of a phase: validated
	// Energy above idle: validated
	// Joules of a single event of 1 s or longer: validated
	// Steady-state performance: failed
	// thermal-equilibrium: the soak ended in timeout
}

func BenchmarkRead(b *testing.B) {
	dir, err := reporttest.New().FS()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	records := int64(0)
	for b.Loop() {
		r, err := report.Read(dir, report.Default())
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range r.Trace.Records {
			records += n
		}
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}
