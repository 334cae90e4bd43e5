package grpcproxy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rows says what proves each row of the family's feature list, 1.1 to 1.59: the
// tests, or for what is not here the migration page that tells where it went.
var rows = map[int]string{
	1:  "TestAllKinds",
	2:  "TestRegisterService ExampleRegisterService",
	3:  "TestRegisterStreamHandlers",
	4:  "TestLocalServices",
	5:  "mwitkow.md TestXDSDirector",
	6:  "mwitkow.md TestPeekDirector",
	7:  "TestContextNotDerived TestDirectors ExampleTransparentHandler ExampleRegisterService_clientConnInterface",
	8:  "TestDirector TestWithMode",
	9:  "TestPeekDirector TestPeekParameters",
	10: "TestRegisterService TestInterceptorsHaveTheLastWord",
	11: "TestDirector TestDirectorSeesClientCertificate",
	12: "TestDirector TestXDSDirector",
	13: "TestDirector TestXDSDirector",
	14: "TestDirector",
	15: "ExampleNewProxy ExampleDefaultProxyOpt",
	16: "TestWithoutCodec TestCodec",
	17: "TestFrame",
	18: "TestFrame TestQueuedFramesAreFreed TestPeekedFrameIsFreed",
	19: "TestAllKinds",
	20: "TestFullDuplexAndHalfClose",
	21: "TestClientGoes TestForwarderForeignContext TestContextNotDerived TestTenThousandCancelled",
	22: "TestStatusIsVerbatim TestDetailsGoWithTheirStatus TestUnknownDetailsPass",
	23: "TestClientGoes TestConnectionIsClosed TestHandlerTellsWhy TestBackendKnowsDeadlineFirst TestClientMessageTooLarge TestClientGoesWhileConnecting TestInterceptorsHaveTheLastWord",
	24: "TestHeadersAtOnce TestManyHeadersAtOnce TestManyHeadersWithoutTheLast",
	25: "TestBackendCompletesFirst",
	26: "TestHeadersOfErrors TestTrailersOnly",
	27: "TestUnreachable TestRejectedBeforeFirstMessage TestFirstMessageCannotBeSent",
	28: "TestContentSubtype TestAcceptEncodingIsTheProxys",
	29: "TestLocalServices TestServer",
	30: "TestCompression TestEncodings TestLengthsStayOnTheirHop",
	31: "TestManyUnary",
	32: "TestManyUnary TestManyUnaryWithSeveralMessages TestMergeByDescriptor TestWithMerger",
	33: "TestManyStreaming",
	34: "TestManyStreaming",
	35: "TestManyUnary TestManyAppendInfoFails",
	36: "TestManyUnary TestManyFatalError",
	37: "TestManySlowBackend TestManySlowToConnect TestManyNobodyListens",
	38: "TestManyUnary TestHeadersThatCannotBeSent TestServerStreamWrapper",
	39: "TestManyErrorsAreJoined",
	40: "TestReplicated TestReplicatedWithoutOne TestPeekRewrites",
	41: "TestPeekRewrites TestPeekMessageIsNotLost TestPeekParameters",
	42: "TestPeekDirector TestPeekTooLate TestMiddlewarePeeks TestFirstPayload",
	43: "TestErrorHandler TestErrorInSending TestPeekErrorPrecedence TestClientGoesWhileConnecting",
	44: "TestManySlowBackend",
	45: "TestPoolLimits TestPoolOneStream TestEnder TestEnderOfPanic",
	46: "TestPoolExpiry TestPoolConcurrent BenchmarkPool",
	47: "TestConnectionCache",
	48: "TestConnectionCacheEviction TestEvictionSparesDrainingCalls",
	49: "TestForwarder TestForwarderForeignContext TestConnectionIsClosed TestForwarderAnyContext TestServer",
	50: "TestServerLifecycle TestUseConcurrently TestCloseWaitsForHandlers",
	51: "TestServerConfig TestServerConfigApplies TestServerKeepalive",
	52: "TestMiddlewares TestMiddlewareAborts TestMiddlewarePeeks TestDirectorSeesMiddlewareMetadata",
	53: "TestHook",
	54: "grpcat.md",
	55: "TestReverseTunnel TestAnyChannel",
	56: "gitaly.md",
	57: "gitaly.md TestEnder TestBackendKnowsDeadlineFirst",
	58: "TestAllKinds TestFullDuplexAndHalfClose TestTenThousandCancelled",
	59: "TestXDSDirector TestXDSDirectorFollowsEndpoints TestWithMode siderolabs.md",
}

var rowNumber = regexp.MustCompile(`\b1\.([0-9]{1,2})\b`)

// Every row has its tests and pages, which are there and name it; and a test
// that names a row names one that exists.
func TestRows(t *testing.T) {
	tests := testComments(t)
	for n := 1; n <= 59; n++ {
		if rows[n] == "" {
			t.Errorf("row 1.%d has no test", n)
		}
		for _, name := range strings.Fields(rows[n]) {
			if strings.HasSuffix(name, ".md") {
				if !pageHas(t, name, n) {
					t.Errorf("%s has no line for row 1.%d", name, n)
				}
				continue
			}
			comment, there := tests[name]
			if !there {
				t.Errorf("row 1.%d: there is no %s", n, name)
			} else if !names(comment, n) {
				t.Errorf("the comment of %s does not name row 1.%d", name, n)
			}
		}
	}
	if len(rows) != 59 {
		t.Errorf("%d rows", len(rows))
	}
	for name, comment := range tests {
		for _, m := range rowNumber.FindAllStringSubmatch(comment, -1) {
			if n, _ := strconv.Atoi(m[1]); rows[n] == "" {
				t.Errorf("%s names row 1.%d, which does not exist", name, n)
			}
		}
	}
}

func names(comment string, n int) bool {
	for _, m := range rowNumber.FindAllStringSubmatch(comment, -1) {
		if m[1] == strconv.Itoa(n) {
			return true
		}
	}
	return false
}

// testComments has the comments of all tests of these packages by name. Those
// of one name in several packages are joined.
func testComments(t *testing.T) map[string]string {
	t.Helper()
	comments := make(map[string]string)
	for _, pattern := range []string{"*_test.go", "proxy/*_test.go", "sidero/proxy/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if ok && fn.Recv == nil && regexp.MustCompile(`^(Test|Example|Benchmark)`).MatchString(fn.Name.Name) && fn.Name.Name != "TestRows" {
					comments[fn.Name.Name] += fn.Doc.Text()
				}
			}
		}
	}
	return comments
}

// pageHas reports that a migration page has a table line about row n.
func pageHas(t *testing.T, page string, n int) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs/migration", page))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 && names(cells[1], n) {
			return true
		}
	}
	return false
}
