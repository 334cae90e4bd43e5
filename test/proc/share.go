package proc

import (
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Share measures, for a fifth of a second, which part of the machine's
// processors this process gets when it asks for all of them: about 1 on a
// machine that is idle otherwise. Times that are judged mean little where it is
// small. The caller's own processes should be quiet meanwhile.
func Share() float64 {
	const d = 200 * time.Millisecond
	n := runtime.GOMAXPROCS(0)
	begin, before := time.Now(), cpuTime()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for time.Since(begin) < d {
			}
		})
	}
	wg.Wait()
	return float64(cpuTime()-before) / float64(time.Since(begin)) / float64(n)
}

// cpuTime is what this process has used of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
