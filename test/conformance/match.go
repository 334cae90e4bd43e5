package main

import (
	"path"
	"strings"
)

// match tells whether a case's name fits a pattern: elements separated by
// slashes, * within one element, ** for any number of them. An empty pattern
// fits every name.
func match(pattern, name string) bool {
	return pattern == "" || matchElements(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

func matchElements(pat, name []string) bool {
	for ; len(pat) > 0; pat, name = pat[1:], name[1:] {
		if pat[0] == "**" {
			for i := range len(name) + 1 {
				if matchElements(pat[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pat[0], name[0]); err != nil || !ok {
			return false
		}
	}
	return len(name) == 0
}
