package proc

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Build compiles commands of this module into the folder dir, with the
// compiler's messages on standard error. For TestMain.
func Build(dir string, race bool, commands ...string) error {
	args := []string{"build", "-o", dir + string(os.PathSeparator)}
	if race {
		args = append(args, "-race")
	}
	for _, c := range commands {
		args = append(args, "github.com/sluice-proxy/sluice/cmd/"+c)
	}
	cmd := exec.Command("go", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %v: %w", commands, err)
	}
	return nil
}

// Run starts a program that ends with the test. Its output is shown if the
// test failed.
func Run(t testing.TB, name, bin string, args ...string) *Process {
	t.Helper()
	p, err := Start(name, bin, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Log(p.Report())
		}
	})
	return p
}

// given are the ports that FreePort has returned.
var given sync.Map

// FreePort reserves nothing: it returns a loopback port that was free a moment
// ago, and that it has not returned before. It is below those that the system
// gives to connections and to listeners without a port, of which other tests
// have many.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 12000 + rand.IntN(20000)
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = ln.Close()
		if _, again := given.LoadOrStore(port, true); !again {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// Eventually polls check until it succeeds, and fails the test if it does not
// within the limit.
func Eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		time.Sleep(20 * time.Millisecond) // polling another process
	}
}

// Admin is the address of a proxy's administration interface.
type Admin string

// Get asks for a page. A status other than 200 is an error. No connection
// stays behind.
func (a Admin) Get(path string) (string, error) {
	c := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + string(a) + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return string(b), err
}

// Stats returns the values of the stats whose names match filter, a regular
// expression; "" for all.
func (a Admin) Stats(filter string) (map[string]float64, error) {
	path := "/stats?format=json"
	if filter != "" {
		path += "&filter=" + filter
	}
	body, err := a.Get(path)
	if err != nil {
		return nil, err
	}
	var in struct {
		Stats []struct {
			Name  string
			Value float64
		}
	}
	if err := json.Unmarshal([]byte(body), &in); err != nil {
		return nil, fmt.Errorf("/stats: %w: %s", err, body)
	}
	out := make(map[string]float64, len(in.Stats))
	for _, s := range in.Stats {
		if s.Name != "" { // not histograms
			out[s.Name] = s.Value
		}
	}
	return out, nil
}
