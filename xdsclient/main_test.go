package xdsclient

import (
	"testing"

	"github.com/sluice-proxy/sluice/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
