package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/report"

	ucli "github.com/urfave/cli/v2"
)

// Every threshold has a flag, and its place in the configuration file is the
// name that check --json gives it: what the one writes, the other reads.
func TestThresholdsAreNamedAlike(t *testing.T) {
	var places []string
	for flag, paths := range keys {
		place, ok := strings.CutPrefix(strings.Split(paths, "|")[0], "checks.")
		if !ok {
			t.Errorf("--%s has no place under checks", flag)
		}
		places = append(places, place)
		if !slices.ContainsFunc(thresholdFlags(), func(f ucli.Flag) bool { return slices.Contains(f.Names(), flag) }) {
			t.Errorf("--%s is no flag", flag)
		}
	}
	slices.Sort(places)
	if named := slices.Sorted(maps.Keys(report.Default().Named())); !slices.Equal(places, named) {
		t.Errorf("under checks there is %v, thresholds are %v", places, named)
	}
	if len(thresholdFlags()) != len(keys) {
		t.Errorf("%d flags, %d places", len(thresholdFlags()), len(keys))
	}
}
