package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// System returns the Lookup of the machine: /etc/hosts first, then the name
// servers of /etc/resolv.conf with its search list. Both files are read again
// when they change. localhost needs neither (RFC 6761 §6.3).
func System() Lookup { return newSystem("/etc/hosts", "/etc/resolv.conf") }

// maxQueries is how many queries of one System may be under way at once: a
// cluster of a thousand names must not flood its name server.
const maxQueries = 64

type system struct {
	hosts file[map[string][]netip.Addr]
	conf  file[*dns.ClientConfig]
	slots chan struct{}
}

func newSystem(hosts, resolvConf string) *system {
	return &system{
		hosts: file[map[string][]netip.Addr]{path: hosts, parse: parseHosts},
		conf:  file[*dns.ClientConfig]{path: resolvConf, parse: parseResolvConf},
		slots: make(chan struct{}, maxQueries),
	}
}

// Lookup implements Lookup.
func (s *system) Lookup(ctx context.Context, name string, v6 bool) (Answer, error) {
	plain := strings.ToLower(strings.TrimSuffix(name, "."))
	if addrs, ok := s.hosts.get()[plain]; ok {
		return Answer{Addrs: ofFamily(addrs, v6)}, nil
	}
	if plain == "localhost" || strings.HasSuffix(plain, ".localhost") {
		loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		return Answer{Addrs: ofFamily(loopback, v6)}, nil
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return Answer{}, errors.New("not a domain name")
	}

	conf := s.conf.get()
	var failure error
	for _, full := range conf.NameList(name) {
		m, err := s.query(ctx, conf, full, v6)
		if err != nil {
			failure = err
			continue
		}
		if a := answerOf(m, v6); len(a.Addrs) > 0 {
			return a, nil
		}
	}
	return Answer{}, failure
}

func ofFamily(addrs []netip.Addr, v6 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is4() != v6 {
			out = append(out, a)
		}
	}
	return out
}

// answerOf returns the addresses of a response. The name server has followed
// the aliases; their TTLs count too.
func answerOf(m *dns.Msg, v6 bool) Answer {
	var a Answer
	least := ^uint32(0)
	for _, rr := range m.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			if !v6 {
				ip = rr.A
			}
		case *dns.AAAA:
			if v6 {
				ip = rr.AAAA
			}
		case *dns.CNAME:
		default:
			continue
		}
		least = min(least, rr.Header().Ttl)
		if addr, ok := netip.AddrFromSlice(ip); ok {
			a.Addrs = append(a.Addrs, addr.Unmap())
		}
	}
	if len(a.Addrs) > 0 {
		a.TTL = time.Duration(least) * time.Second
	}
	return a
}

// query asks the servers one after the other, as often as resolv.conf says,
// until one gives an answer: NOERROR or NXDOMAIN.
func (s *system) query(ctx context.Context, conf *dns.ClientConfig, name string, v6 bool) (*dns.Msg, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	qtype := dns.TypeA
	if v6 {
		qtype = dns.TypeAAAA
	}
	timeout := time.Duration(max(conf.Timeout, 1)) * time.Second
	failure := errors.New("no name server is configured")
	for range max(conf.Attempts, 1) {
		for _, server := range conf.Servers {
			m, err := ask(ctx, net.JoinHostPort(server, conf.Port), name, qtype, timeout)
			if err == nil {
				return m, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
			failure = err
		}
	}
	return nil, failure
}

// ask asks one server over UDP, and again over TCP if the answer was cut, or
// without EDNS if the server does not know it (RFC 6891 §7).
func ask(ctx context.Context, server, name string, qtype uint16, timeout time.Duration) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(1232, false) // fits every path's MTU
	m, err := exchange(ctx, "udp", server, q, timeout)
	if err == nil && m.Rcode == dns.RcodeFormatError {
		q = new(dns.Msg).SetQuestion(name, qtype)
		m, err = exchange(ctx, "udp", server, q, timeout)
	}
	if err == nil && m.Truncated {
		m, err = exchange(ctx, "tcp", server, q, timeout)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("name server %s: %w", server, err)
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("name server %s: %s", server, dns.RcodeToString[m.Rcode])
	case len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, name) || m.Question[0].Qtype != qtype:
		return nil, fmt.Errorf("name server %s: the answer is for another question", server)
	}
	return m, nil
}

// exchange sends q and reads the answer. Unlike the client's own methods it
// ends at once when ctx does.
func exchange(ctx context.Context, network, server string, q *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := &dns.Client{Net: network, Timeout: timeout}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m, _, err := client.ExchangeWithConnContext(ctx, q, conn)
	return m, err
}
