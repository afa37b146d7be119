package cli

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	ucli "github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

// configure gives flags that are still unset their value from the YAML file.
// Keys that no flag is bound to are other tools' and passed over.
func (s *session) configure(c *Context, name string, flags []ucli.Flag) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return WithHint(Errorf(ExitUsage, "%s: %s", name, strings.TrimPrefix(err.Error(), "yaml: ")), "indent with spaces, and put a space after each colon")
	}
	if len(doc.Content) == 0 {
		return nil
	}
	var all any // a key that stands twice shows when the nodes are made values
	if err := doc.Decode(&all); err != nil {
		return WithHint(Errorf(ExitUsage, "%s: %s", name, strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")), "say each setting once")
	}
	if err := s.unknownKeys(name, doc.Content[0]); err != nil {
		return err
	}
	for _, f := range flags {
		flag := f.Names()[0]
		path, ok := s.tool.ConfigKeys[c.Command.Name+" "+flag]
		if !ok {
			path, ok = s.tool.ConfigKeys[flag]
		}
		if !ok || c.Context.IsSet(flag) {
			continue
		}
		var node *yaml.Node
		for _, place := range strings.Split(path, "|") {
			if node = lookup(doc.Content[0], strings.Split(place, ".")); node != nil {
				path = place
				break
			}
		}
		if node == nil {
			continue
		}
		text, err := scalar(node)
		if err == nil {
			if _, ok := f.(*ucli.DurationFlag); ok {
				text, err = duration(path, text)
			}
		}
		if err == nil {
			err = c.Set(flag, text)
		}
		if err != nil {
			return WithHint(Errorf(ExitUsage, "%s:%d: %s: %v", name, node.Line, path, err), fmt.Sprintf("it stands for --%s", flag))
		}
	}
	return nil
}

// unknownKeys finds keys that no flag is bound to in the part of the file that
// is this tool's own: a threshold that is misspelt would not be judged by.
func (s *session) unknownKeys(name string, doc *yaml.Node) error {
	if s.tool.ConfigSection == "" {
		return nil
	}
	n := lookup(doc, []string{s.tool.ConfigSection})
	if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return WithHint(Errorf(ExitUsage, "%s:%d: %s: want keys with values", name, n.Line, s.tool.ConfigSection), "as in "+s.tool.ConfigSection+": {KEY: VALUE}")
	}
	known := map[string]bool{}
	for _, paths := range s.tool.ConfigKeys {
		for _, path := range strings.Split(paths, "|") {
			known[path] = true
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if path := s.tool.ConfigSection + "." + n.Content[i].Value; !known[path] && n.Content[i].Tag != merge {
			return WithHint(Errorf(ExitUsage, "%s:%d: %s is no setting of %s", name, n.Content[i].Line, path, s.tool.Name),
				"its keys are the options' names with _ for - and the unit of a time at the end")
		}
	}
	return nil
}

// lookup follows a path of keys, also to where an alias or a merge (<<) points.
func lookup(n *yaml.Node, path []string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if len(path) == 0 {
		return n
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == path[0] {
			return lookup(n.Content[i+1], path[1:])
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != merge {
			continue
		}
		from := []*yaml.Node{n.Content[i+1]}
		if from[0].Kind == yaml.SequenceNode {
			from = from[0].Content
		}
		for _, m := range from {
			if found := lookup(m, path); found != nil {
				return found
			}
		}
	}
	return nil
}

// merge is the tag of the key <<, of which the value's keys are the mapping's too.
const merge = "!!merge"

// scalar is a value as it would stand on the command line; a list of values
// is joined with commas.
func scalar(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value, nil
	case yaml.SequenceNode:
		var parts []string
		for _, item := range n.Content {
			text, err := scalar(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("want a value or a list of values")
}

// duration puts the unit at the end of a key to a bare number.
func duration(path, text string) (string, error) {
	for end, unit := range map[string]time.Duration{"_ms": time.Millisecond, "_s": time.Second, "_min": time.Minute} {
		if strings.HasSuffix(path, end) {
			n, err := strconv.ParseFloat(text, 64)
			if ns := n * float64(unit); err == nil && math.Abs(ns) < math.MaxInt64 {
				return time.Duration(ns).String(), nil
			}
		}
	}
	if _, err := time.ParseDuration(text); err != nil {
		return "", fmt.Errorf("%q is no duration", text)
	}
	return text, nil
}
