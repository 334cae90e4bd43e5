package controlplane

import (
	"fmt"
	"strings"
)

// Faults returns the single faults that an error of this package joins, each
// of them one line: group, file, resource, field, reason.
func Faults(err error) []error {
	switch e := err.(type) { //nolint:errorlint // the joined errors themselves, not what they wrap
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var out []error
		for _, err := range e.Unwrap() {
			out = append(out, Faults(err)...)
		}
		return out
	}
	if s := err.Error(); strings.Contains(s, "\n") {
		return []error{&oneLine{err}}
	}
	return []error{err}
}

// oneLine is an error whose text had several lines.
type oneLine struct{ err error }

func (e *oneLine) Error() string { return strings.Join(strings.Fields(e.err.Error()), " ") }
func (e *oneLine) Unwrap() error { return e.err }

// at returns err's faults, each with the place it was found at in front.
func at(place string, err error) []error {
	faults := Faults(err)
	for i, f := range faults {
		faults[i] = fmt.Errorf("%s: %w", place, f)
	}
	return faults
}
