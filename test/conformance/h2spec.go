package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// h2specCase is a test of h2spec by its id, such as http2/6.5.3/2.
type h2specCase struct {
	id, group, title string
}

// parseH2specList reads the output of h2spec --dryrun.
func parseH2specList(text string) (cases []h2specCase) {
	roots := map[string]string{"Generic": "generic", "Hypertext": "http2", "HPACK:": "hpack"}
	var root, group string
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case roots[word] != "" && !unicode.IsSpace(rune(line[0])):
			root = roots[word]
		case strings.HasSuffix(word, ".") && unicode.IsDigit(rune(word[0])):
			group = root + "/" + strings.TrimSuffix(word, ".")
		case strings.HasSuffix(word, ":") && unicode.IsDigit(rune(word[0])):
			cases = append(cases, h2specCase{id: group + "/" + strings.TrimSuffix(word, ":"), group: group, title: rest})
		}
	}
	return cases
}

// h2specReport is h2spec's JUnit report.
type h2specReport struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Title   string    `xml:"classname,attr"`
			Failure *xmlText  `xml:"failure"`
			Error   *xmlText  `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type xmlText struct {
	Text string `xml:",chardata"`
}

// unescaped is the text that h2spec writes as it is.
var unescaped = regexp.MustCompile(`(?s)<(failure|error)>.*?</(failure|error)>`)

// cleanXML escapes the messages in h2spec's report.
func cleanXML(data []byte) []byte {
	data = unescaped.ReplaceAllFunc(data, func(b []byte) []byte {
		open, rest, _ := bytes.Cut(b, []byte(">"))
		text := rest[:bytes.LastIndex(rest, []byte("</"))]
		return slices.Concat(open, []byte(">"), []byte(html.EscapeString(string(text))), rest[len(text):])
	})
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return '.'
		}
		return r
	}, data)
}

// parseH2specReport joins the report with the list, because it names cases by
// title only.
func parseH2specReport(data []byte, cases []h2specCase, r *result) error {
	var rep h2specReport
	if err := xml.Unmarshal(cleanXML(data), &rep); err != nil {
		return fmt.Errorf("h2spec's report: %w", err)
	}
	for _, s := range rep.Suites {
		for _, c := range s.Cases {
			name := s.Package
			for i, want := range cases {
				if want.group == s.Package && want.title == c.Title {
					name, cases[i].group = want.id, "" // titles may repeat
					break
				}
			}
			switch {
			case c.Skipped != nil:
				r.skipped++
			case c.Failure != nil:
				r.failed = append(r.failed, failure{name, c.Title + "\n" + c.Failure.Text})
			case c.Error != nil:
				r.failed = append(r.failed, failure{name, c.Title + "\n" + c.Error.Text})
			default:
				r.passed++
			}
		}
	}
	return nil
}

// runH2spec runs every test of h2spec, the strict ones too.
func (h *harness) runH2spec(ctx context.Context) []*result {
	return []*result{h.timed("h2spec", func(r *result) error {
		bin := filepath.Join(h.tools, "h2spec")
		list, err := h.output(ctx, bin, "--strict", "--dryrun")
		if err != nil {
			return err
		}
		cases := parseH2specList(list)
		var sections []string
		for _, c := range cases {
			if match(h.pattern, c.id) {
				sections = append(sections, c.id)
			}
		}
		if len(sections) == 0 {
			return errNoCase
		}
		b, err := startBackend(http.HandlerFunc(answer))
		if err != nil {
			return err
		}
		defer b.stop()
		p, err := h.proxy.start(ctx, "h2spec-proxy", b.host, b.port)
		if err != nil {
			return err
		}
		defer p.stop()

		path := filepath.Join(h.proxy.logs, "h2spec.xml")
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		args := []string{"--strict", "--host", p.host, "--port", p.port, "--junit-report", path}
		if h.verbose {
			args = append(args, "--verbose")
		}
		if h.pattern != "" {
			args = append(args, sections...)
		}
		out, err := h.output(ctx, bin, args...)
		data, readErr := os.ReadFile(path)
		if readErr != nil { // it could not connect, or ran out of time
			return fmt.Errorf("%w\n%s", err, out)
		}
		if err := parseH2specReport(data, cases, r); err != nil {
			return err
		}
		if n := r.passed + r.skipped + len(r.failed); n != len(sections) {
			return fmt.Errorf("%d of %d cases reported", n, len(sections))
		}
		return nil
	})}
}
