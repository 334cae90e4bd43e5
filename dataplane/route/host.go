package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// domain is one entry of VirtualHost.domains.
type domain struct {
	text  string // in lower case, with its "*"
	vhost *vhost
}

// hosts finds the virtual host of a :authority, in Envoy's order: the exact
// domain, the longest suffix wildcard ("*.foo.com", "*-bar.foo.com"), the
// longest prefix wildcard ("foo.*"), "*". A "*" stands for at least one
// character, but for the one that is alone.
type hosts struct {
	exact    map[string]*domain
	suffixes wildcards
	prefixes wildcards
	any      *domain
}

// wildcards are the domains with a "*" at one end, by their fixed text.
type wildcards struct {
	byText  map[string]*domain
	lengths []int // of the fixed texts, longest first, each once
}

// add claims d for its virtual host.
func (h *hosts) add(d *domain) error {
	var other *domain
	switch {
	case d.text == "*":
		if other = h.any; other == nil {
			h.any = d
		}
	case strings.HasPrefix(d.text, "*"):
		other = h.suffixes.add(d.text[1:], d)
	case strings.HasSuffix(d.text, "*"):
		other = h.prefixes.add(d.text[:len(d.text)-1], d)
	default:
		if h.exact == nil {
			h.exact = make(map[string]*domain)
		}
		if other = h.exact[d.text]; other == nil {
			h.exact[d.text] = d
		}
	}
	if other != nil {
		return fmt.Errorf("duplicate domain %q: virtual host %q already has it", d.text, other.vhost.name)
	}
	return nil
}

func (w *wildcards) add(text string, d *domain) (other *domain) {
	if other = w.byText[text]; other != nil {
		return other
	}
	if w.byText == nil {
		w.byText = make(map[string]*domain)
	}
	w.byText[text] = d
	i, found := slices.BinarySearchFunc(w.lengths, len(text), func(have, want int) int { return want - have })
	if !found {
		w.lengths = slices.Insert(w.lengths, i, len(text))
	}
	return nil
}

// find returns the domain that takes host, nil if there is none.
func (h *hosts) find(host string, ignorePort bool) *domain {
	// The one virtual host with "*" takes even a request without :authority.
	if h.exact == nil && h.suffixes.byText == nil && h.prefixes.byText == nil {
		return h.any
	}
	if host == "" {
		return nil
	}
	if ignorePort {
		host = cutPort(host)
	}
	var buf [256]byte // a DNS name has at most 253 bytes; a longer host moves to the heap
	text := buf[:0]
	for i := range len(host) {
		text = append(text, lowerByte(host[i]))
	}
	if d := h.exact[string(text)]; d != nil {
		return d
	}
	for _, n := range h.suffixes.lengths {
		if n < len(text) {
			if d := h.suffixes.byText[string(text[len(text)-n:])]; d != nil {
				return d
			}
		}
	}
	for _, n := range h.prefixes.lengths {
		if n < len(text) {
			if d := h.prefixes.byText[string(text[:n])]; d != nil {
				return d
			}
		}
	}
	return h.any
}

// cutPort removes the port as Envoy's HeaderUtility::getPortStart finds it:
// what follows the last ":" that is not inside an IPv6 address's brackets.
func cutPort(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.LastIndexByte(host, ']') > i {
		return host
	}
	return host[:i]
}

// claim adds all domains of a virtual host and reports all that it cannot have.
func (h *hosts) claim(vh *vhost, domains []string) error {
	if len(domains) == 0 {
		return errors.New("no domains")
	}
	var errs []error
	for _, text := range domains {
		errs = append(errs, h.add(&domain{text: lower(text), vhost: vh}))
	}
	return errors.Join(errs...)
}
