package proc

import "testing"

func TestShare(t *testing.T) {
	if s := Share(); s <= 0 || s > 1.2 {
		t.Errorf("the process got %v of the processors", s)
	}
}
