package xdsconfig

import (
	"errors"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/sluice-proxy/sluice/dataplane/transport"
)

// Secrets are what the TLS contexts of a resource need kept current.
type Secrets struct {
	SDS   []*SecretSource
	Files []*FileSource
}

// SecretSource is a secret that a TLS context takes by SDS.
type SecretSource struct {
	Name string
	Path string // the file that it stands in; empty: it comes over ADS
	Dir  string // whose changes make the file be read again; empty: the file's own
	// FetchTimeout is how long the resource warms for it; 0: for ever.
	FetchTimeout time.Duration
	// take compiles a version of the secret for its context.
	take func(m *tlsv3.Secret, env *Env) (*taken, error)
}

// taken is a version of a secret, ready to be used.
type taken struct {
	commit func()        // makes contexts use it
	files  []*FileSource // that it is made of
}

// FileSource are files that a secret is made of.
type FileSource struct {
	Paths []string
	Dir   string // whose changes make them be read again; empty: their own
	load  func(contents [][]byte) error
}

// keep makes cell hold what mat says, now and whenever its files change.
func keep[T any](t *tlsCompiler, a *at, cell *transport.Secret[T], mat *material[T]) {
	v, files := prepare(a, cell, mat)
	if v != nil {
		cell.Set(v)
	}
	t.needs.Files = append(t.needs.Files, files...)
}

// prepare reads mat and returns its value and what follows its files for cell.
// The value is nil if a says why not, or if files are not read here.
func prepare[T any](a *at, cell *transport.Secret[T], mat *material[T]) (*T, []*FileSource) {
	if mat == nil {
		return nil, nil
	}
	v, err := mat.read(a)
	if err != nil {
		a.errorf("%s", err)
		return nil, nil
	}
	paths := mat.paths()
	if len(paths) == 0 {
		return v, nil
	}
	return v, []*FileSource{{Paths: paths, Dir: mat.dir, load: func(contents [][]byte) error {
		v, err := mat.value(contents)
		if err == nil {
			cell.Set(v)
		}
		return err
	}}}
}

// follow makes cell hold the secret that m names, whatever version it has.
func follow[T any](t *tlsCompiler, a *at, m *tlsv3.SdsSecretConfig, cell *transport.Secret[T], compile func(a *at, s *tlsv3.Secret) *material[T]) {
	src := &SecretSource{Name: m.GetName(), take: func(s *tlsv3.Secret, env *Env) (*taken, error) {
		r := &report{kind: "Secret", name: s.GetName(), env: env}
		v, files := prepare(r.root(), cell, compile(r.root(), s))
		if err := r.done(); err != nil {
			return nil, err
		}
		return &taken{commit: func() { cell.Set(v) }, files: files}, nil
	}}
	if src.Name == "" {
		a.field("name").errorf("value is required")
		return
	}
	if m.GetSdsConfig() == nil {
		t.static(a, src)
		return
	}
	here := a.field("sds_config")
	src.FetchTimeout = fetchTimeout(m.GetSdsConfig())
	switch s := m.GetSdsConfig().GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
	case *corev3.ConfigSource_PathConfigSource:
		src.Path, src.Dir = s.PathConfigSource.GetPath(), s.PathConfigSource.GetWatchedDirectory().GetPath()
	case *corev3.ConfigSource_Path:
		src.Path = s.Path
	case nil:
		here.field("config_source_specifier").errorf("ads or path_config_source is required")
		return
	default:
		return // the support table has refused it
	}
	t.needs.SDS = append(t.needs.SDS, src)
}

// static takes a secret of the bootstrap.
func (t *tlsCompiler) static(a *at, src *SecretSource) {
	env := a.r.env
	if env.Secret == nil {
		a.warnf("secret %q: looked up by each node in its bootstrap", src.Name)
		return
	}
	s := env.Secret(src.Name)
	if s == nil {
		a.errorf("there is no static secret %q in the bootstrap", src.Name)
		return
	}
	got, err := src.take(s, env)
	if err != nil {
		a.errors(err)
		return
	}
	got.commit()
	t.needs.Files = append(t.needs.Files, got.files...)
}

// overADS reports whether one of the secrets comes by the control plane's
// stream.
func (n *Secrets) overADS() bool {
	return slices.ContainsFunc(n.SDS, func(s *SecretSource) bool { return s.Path == "" })
}

// CompileSecret checks a Secret: what stands in it must be readable and belong
// together. Its files, and what it is good for, are looked at by the contexts
// that name it.
func CompileSecret(m *tlsv3.Secret, env *Env) (*tlsv3.Secret, error) {
	r := &report{kind: "Secret", name: m.GetName(), env: env}
	a := r.root()
	a.check(m)
	if !r.failed() {
		a.secret(m)
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	return m, nil
}

// errNoSecret is a file without the secret that it should have.
var errNoSecret = errors.New("the file has no secret of that name")
