package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/sluice-proxy/sluice/dataplane/cluster"
)

// site is a configured endpoint.
type site struct {
	locality int // index in the configured assignment
	endpoint cluster.Endpoint
	name     *name  // nil: the address is numeric or a socket's path
	port     string // of a name
	err      error  // the address is neither; the endpoint is left out
}

// name is a DNS name and what is known of it.
type name struct {
	name  string
	addrs []netip.Addr // sorted; at most one for LOGICAL_DNS
	err   error        // of the last look-up
	seen  bool         // there was an answer or a failure
}

// plan reads the configured endpoints. A name that several of them share is
// looked up once.
func (r *Resolver) plan() {
	r.names = make(map[string]*name)
	for i := range r.cfg.Assignment.Localities {
		for _, e := range r.cfg.Assignment.Localities[i].Endpoints {
			if r.cfg.Logical && len(r.sites) == 1 {
				return
			}
			s := site{locality: i, endpoint: e}
			if host, port, err := net.SplitHostPort(e.Address); e.Network == "unix" {
				// A path needs no look-up.
			} else if err != nil {
				s.err = fmt.Errorf("endpoint %q: %w", e.Address, err)
			} else if _, err := netip.ParseAddr(host); err != nil {
				s.port = port
				s.name = r.names[host]
				if s.name == nil {
					s.name = &name{name: host}
					r.names[host] = s.name
					r.waiting++
				}
			}
			r.sites = append(r.sites, s)
		}
	}
}

// numeric reports whether there are hosts before anything is resolved.
func (r *Resolver) numeric() bool {
	return slices.ContainsFunc(r.sites, func(s site) bool { return s.name == nil && s.err == nil })
}

// take keeps a result and reports whether the name's addresses changed.
//
// A failure changes nothing. An answer without addresses empties a STRICT_DNS
// name, as in Envoy: the name server says that the hosts are gone. LOGICAL_DNS
// keeps its address then, and also while it is among several of an answer: the
// address stands for the service, and a rotating order must not tear the
// connections down each time.
func (n *name) take(res result, logical bool) (changed bool) {
	if res.err != nil {
		return false
	}
	next := res.addrs
	if logical {
		switch {
		case len(next) == 0, len(n.addrs) > 0 && slices.Contains(next, n.addrs[0]):
			return false
		}
		next = next[:1]
	} else {
		next = slices.Compact(slices.SortedFunc(slices.Values(next), netip.Addr.Compare))
	}
	if slices.Equal(n.addrs, next) {
		return false
	}
	n.addrs = next
	return true
}

// assignment puts the known addresses in the places of their endpoints.
func (r *Resolver) assignment() *cluster.Assignment {
	from := r.cfg.Assignment
	a := *from
	a.Localities = slices.Clone(from.Localities)
	for i := range a.Localities {
		a.Localities[i].Endpoints = nil
	}
	for _, s := range r.sites {
		to := &a.Localities[s.locality].Endpoints
		switch {
		case s.err != nil:
		case s.name == nil:
			*to = append(*to, s.endpoint)
		default:
			for _, addr := range s.name.addrs {
				e := s.endpoint
				e.Address = net.JoinHostPort(addr.String(), s.port)
				if e.Hostname == "" {
					e.Hostname = s.name.name
				}
				*to = append(*to, e)
			}
		}
	}
	return &a
}

// failures joins what is wrong with endpoints that have no address.
func (r *Resolver) failures() error {
	var errs []error
	told := make(map[*name]bool)
	for _, s := range r.sites {
		switch {
		case s.err != nil:
			errs = append(errs, s.err)
		case s.name != nil && len(s.name.addrs) == 0 && s.name.err != nil && !told[s.name]:
			told[s.name] = true
			errs = append(errs, s.name.err)
		}
	}
	return errors.Join(errs...)
}
