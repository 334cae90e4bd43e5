package grpcproxy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// Each row of the family's feature list, 1.1 to 1.59, is named by a test of
// these packages or by a migration page, and none that does not exist.
func TestEveryRowIsNamed(t *testing.T) {
	const rows = 59
	named := make(map[int][]string)
	row := regexp.MustCompile(`\b1\.([0-9]{1,2})\b`)
	for _, pattern := range []string{"*_test.go", "proxy/*_test.go", "sidero/proxy/*_test.go", "../../docs/migration/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			if filepath.Base(f) == "rows_test.go" || filepath.Base(f) == "README.md" {
				continue // they speak of all rows
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range row.FindAllSubmatch(b, -1) {
				n, _ := strconv.Atoi(string(m[1]))
				named[n] = append(named[n], f)
			}
		}
	}
	for n := 1; n <= rows; n++ {
		if len(named[n]) == 0 {
			t.Errorf("row 1.%d is named nowhere", n)
		}
		delete(named, n)
	}
	for n, files := range named {
		t.Errorf("there is no row 1.%d, but %v name it", n, files)
	}
}
