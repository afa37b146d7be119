package kernels_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"joulepipe/pkg/cuda/kernels"
)

// TestPTXBelongsToSource compares what each module says that it was made of with
// what is there.
func TestPTXBelongsToSource(t *testing.T) {
	header, err := os.ReadFile("device.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range kernels.Modules() {
		source, err := os.ReadFile(string(m) + ".cu")
		if err != nil {
			t.Fatal(err)
		}
		first, text, _ := strings.Cut(string(m.PTX()), "\n")
		want := fmt.Sprintf("// of %x, text %x", sha256.Sum256(append(slices.Clone(header), source...)), sha256.Sum256([]byte(text)))
		if first != want {
			t.Errorf("%s.ptx begins with\n%s, want\n%s: run make ptx", m, first, want)
		}
	}
}

// TestPTXIsOld looks for what would keep a driver, or a GPU, from taking the PTX,
// and for memory of threads that were meant to do with registers.
func TestPTXIsOld(t *testing.T) {
	for _, m := range kernels.Modules() {
		text := string(m.PTX())
		for _, want := range []string{".version 7.0\n", ".target sm_80\n", ".address_size 64\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s.ptx is without %q", m, want)
			}
		}
		for _, unwanted := range []string{".local", ".extern .func", "call"} {
			if strings.Contains(text, unwanted) {
				t.Errorf("%s.ptx has %q", m, unwanted)
			}
		}
	}
}

// launches is one of each launch, with sizes that lead to all kernels.
func launches() []kernels.Launch {
	all := []kernels.Launch{kernels.Fill(kernels.F32, 1e10), kernels.Advance(), kernels.MatmulF32(4096), kernels.Copy(1e9)}
	for _, t := range []kernels.Type{kernels.BF16, kernels.F16} {
		all = append(all, kernels.Fill(t, 1), kernels.Embed(t, 2, 3), kernels.Add(t, 2, 8), kernels.SiluMul(t, 2, 8),
			kernels.Gelu(t, 2, 8), kernels.SplitQKV(t, 2, 3, 48), kernels.NormRMS(t, 7), kernels.NormLayer(t, 7), kernels.Argmax(t, 3),
			kernels.AttendReduce(t, 2, 32))
		for _, m := range []int{1, kernels.GemvRows} {
			all = append(all, kernels.Gemv(t, m, 4096), kernels.GemvAdd(t, m, 4096), kernels.GemvGelu(t, m, 4096), kernels.GemvSilu(t, m, 14336))
		}
		for _, n := range []int{128, 6144, 8192} {
			all = append(all, kernels.Gemm(t, 1024, n))
		}
		for _, d := range []int{64, 128} {
			all = append(all, kernels.AttendPrefill(t, 1, 1000, 32, d), kernels.AttendDecode(t, 1, 8, d, 1000))
		}
	}
	return all
}

// TestLaunchesFitKernels holds the launches against what the PTX says of its
// kernels: all are there, none is left over, and blocks have the size they are compiled for.
func TestLaunchesFitKernels(t *testing.T) {
	entry := regexp.MustCompile(`(?s)\.visible \.entry (\w+)\([^)]*\)\n\.maxntid (\d+), 1, 1`)
	unused := map[string]int{} // threads of a block by module and kernel
	for _, m := range kernels.Modules() {
		for _, found := range entry.FindAllStringSubmatch(string(m.PTX()), -1) {
			unused[string(m)+" "+found[1]], _ = strconv.Atoi(found[2])
		}
	}
	compiled := maps.Clone(unused)
	for _, l := range launches() {
		name := string(l.Module) + " " + l.Kernel
		threads, ok := compiled[name]
		switch {
		case !ok:
			t.Errorf("there is no kernel %s", name)
		case l.Block.X != threads || l.Block.Y != 1 || l.Block.Z != 1:
			t.Errorf("%s is launched in blocks of %v, and compiled for %d", name, l.Block, threads)
		}
		if l.Grid.X < 1 || l.Grid.Y < 1 || l.Grid.Y > 65535 || l.Grid.Z < 1 || l.Grid.Z > 65535 || l.Shared > 160<<10 {
			t.Errorf("%s: no GPU takes %+v", name, l)
		}
		delete(unused, name)
	}
	for name := range unused {
		t.Errorf("nothing launches %s", name)
	}
}
