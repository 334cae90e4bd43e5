package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Check returns the violations of rules in the module at root, each with the
// chain of imports that leads to it.
func Check(root string, rules []Rule) ([]string, error) {
	g, err := load(root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range rules {
		for _, p := range g.names() {
			if !anyMatch(r.From, p) || anyMatch(r.Except, p) {
				continue
			}
			g.walk(p, r.Direct, func(chain []string, imp string, ours bool) bool {
				if r.permits(chain[len(chain)-2], imp, ours) {
					return true
				}
				out = append(out, fmt.Sprintf("%s: %s", r.Name, strings.Join(chain, " -> ")))
				return false
			})
		}
	}
	return out, nil
}

// permits reports whether from may import imp.
func (r Rule) permits(from, imp string, ours bool) bool {
	covers := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(pat string) bool {
			rel, local := strings.CutPrefix(pat, "./")
			return local == ours && matches(rel, imp)
		})
	}
	for _, e := range r.Spare {
		if e.From == from && e.To == imp {
			return true
		}
	}
	return (r.Only == nil || covers(r.Only)) && (!covers(r.Deny) || covers(r.Allow))
}

// Unmatched returns the patterns of rules that no package of the module at
// root matches, but for the planned ones, the planned ones that are there, and
// spared imports that nobody has any more. A rule about a package that was
// renamed would hold silently.
func Unmatched(root string, rules []Rule, pure []string) ([]string, error) {
	g, err := load(root)
	if err != nil {
		return nil, err
	}
	there := func(pat string) bool {
		return slices.ContainsFunc(g.names(), func(p string) bool { return matches(pat, p) })
	}
	var out []string
	for _, pat := range pure {
		if !there(pat) {
			out = append(out, fmt.Sprintf("pure: no package %s", pat))
		}
	}
	for _, r := range rules {
		for _, pat := range slices.Concat(r.From, r.Except) {
			if !there(pat) && !slices.Contains(r.Planned, pat) {
				out = append(out, fmt.Sprintf("%s: no package %s", r.Name, pat))
			}
		}
		for _, pat := range r.Planned {
			if there(pat) {
				out = append(out, fmt.Sprintf("%s: %s is there, no longer planned", r.Name, pat))
			}
		}
		for _, e := range r.Spare {
			if g[e.From] == nil || !slices.Contains(g[e.From].imports, e.To) {
				out = append(out, fmt.Sprintf("%s: %s does not import %s, which is spared", r.Name, e.From, e.To))
			}
		}
	}
	return out, nil
}
