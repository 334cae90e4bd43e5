//go:build race

package attack

// raceEnabled: attackers and backends are this process, which the race detector
// slows tenfold; how long others wait says nothing then.
const raceEnabled = true
