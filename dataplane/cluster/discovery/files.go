package discovery

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// file is the parsed content of a small file, read again when the file's time
// or size changes. A missing file counts as empty.
type file[T any] struct {
	path  string
	parse func(content string) T

	mu      sync.Mutex // guards all below; held while the file is read
	read    bool
	time    time.Time
	size    int64
	content T
}

func (f *file[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	var modified time.Time
	var size int64
	if info, err := os.Stat(f.path); err == nil {
		modified, size = info.ModTime(), info.Size()
	}
	if !f.read || !modified.Equal(f.time) || size != f.size {
		content, _ := os.ReadFile(f.path)
		f.read, f.time, f.size, f.content = true, modified, size, f.parse(string(content))
	}
	return f.content
}

// parseHosts reads hosts(5): an address and its names in each line.
func parseHosts(content string) map[string][]netip.Addr {
	hosts := make(map[string][]netip.Addr)
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, n := range fields[1:] {
			n = strings.ToLower(strings.TrimSuffix(n, "."))
			hosts[n] = append(hosts[n], addr.Unmap())
		}
	}
	return hosts
}

// parseResolvConf reads resolv.conf(5). Without a name server it is the local
// one, as in glibc.
func parseResolvConf(content string) *dns.ClientConfig {
	conf, err := dns.ClientConfigFromReader(strings.NewReader(content))
	if err != nil {
		conf = &dns.ClientConfig{Port: "53", Ndots: 1, Timeout: 5, Attempts: 2}
	}
	if len(conf.Servers) == 0 {
		conf.Servers = []string{"127.0.0.1"}
	}
	return conf
}
