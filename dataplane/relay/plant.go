package relay

// Plant is a fault that the simulation of package worker must find when it is
// planted: the test of the test. Only a build with the tag "plant" can plant
// one; in all others Planted is the constant PlantNone, and the branches on it
// are not even compiled.
type Plant uint8

// The faults that can be planted.
const (
	PlantNone            Plant = iota
	PlantNoCredit              // dropped bytes are not credited to their connection
	PlantEarlyCredit           // bytes are credited when they come, not when they left
	PlantOvertake              // trailers overtake queued DATA
	PlantLostEnd               // the end of a response is forgotten once it was blocked
	PlantNoWake                // room on the client's connection is not noticed
	PlantTimerLeft             // an exchange's timer outlives it
	PlantRetrySeen             // a request that may have been seen is sent again
	PlantAttemptLeft           // a cancelled call's upstream stream is not reset
	PlantNoDone                // an attempt that was reset is not reported
	PlantStaleHandle           // generations are not compared
	PlantQueueForgotten        // streams that end do not serve the pool's queue
	PlantCut                   // a chunk boundary loses a byte
	PlantFilterOvertake        // trailers overtake messages that wait for a filter
	PlantFilterForgotten       // response headers that a filter held are not sent
	Plants
)
