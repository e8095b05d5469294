package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle"
)

// Runtime is what sessions act on; lifecycle.Manager is one. Each method returns
// when the session is over or ctx ends.
type Runtime interface {
	Exec(ctx context.Context, id string, request lifecycle.ExecRequest) (exit int32, err error)
	Attach(ctx context.Context, id string, request lifecycle.AttachRequest) error
	PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error
}

// Config is how the server is reached. The zero value listens on a free port of
// the loopback interface without TLS.
type Config struct {
	// Address is host:port to listen on; empty means 127.0.0.1:0. Whoever reaches
	// it needs a token all the same, but tokens travel in clear text without TLS.
	Address string `toml:"address"`
	// CertFile and KeyFile name a PEM certificate and key; both set turn TLS on.
	// A changed file is used from the next connection on.
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
	// IdleTimeout ends a session in which no byte moved; 0 means four hours.
	IdleTimeout time.Duration `toml:"idle_timeout"`
	// CreationTimeout is how long a client may take to open a session's streams;
	// 0 means 30 seconds.
	CreationTimeout time.Duration `toml:"creation_timeout"`
	// MaxSessions bounds the sessions at one time; 0 means 2000.
	MaxSessions int `toml:"max_sessions"`
}

const (
	// closeBound is how long Close waits for sessions to end.
	closeBound = 10 * time.Second
	// lingerBound is how long a finished session waits for its client to hang up.
	lingerBound = 2 * time.Second
)

// Server hands out URLs and serves the sessions that they open.
type Server struct {
	config  Config
	runtime Runtime
	log     *slog.Logger
	tokens  *tokens
	base    url.URL
	http    *http.Server

	ctx      context.Context // ends every session
	stop     context.CancelFunc
	slots    chan struct{} // one element per session
	sessions sync.WaitGroup
	served   chan error // result of the accept loop
}

// Listen starts a server. The caller ends it with Close. log may be nil.
func Listen(config Config, rt Runtime, log *slog.Logger) (*Server, error) {
	if config.Address == "" {
		config.Address = "127.0.0.1:0"
	}
	if config.IdleTimeout <= 0 {
		config.IdleTimeout = 4 * time.Hour
	}
	if config.CreationTimeout <= 0 {
		config.CreationTimeout = 30 * time.Second
	}
	if config.MaxSessions <= 0 {
		config.MaxSessions = 2000
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secure, err := secured(config)
	if err != nil {
		return nil, err
	}
	raw, err := net.Listen("tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for streaming clients on %s: %w", config.Address, err)
	}
	s := &Server{
		config: config, runtime: rt, log: log, tokens: newTokens(),
		slots: make(chan struct{}, config.MaxSessions), served: make(chan error, 1),
		base: url.URL{Scheme: "http", Host: raw.Addr().String()},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.routes(), ConnContext: keepConn,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var clients net.Listener = &listener{raw, s.ctx, config.IdleTimeout}
	if secure != nil {
		s.base.Scheme = "https"
		clients = tls.NewListener(clients, secure)
	}
	go func() { s.served <- s.http.Serve(clients) }() // Close waits for it
	return s, nil
}

// routes are the paths that URLs point to. Clients upgrade with GET or POST.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		mux.Handle(method+" /exec/{token}", s.admit(verbExec, s.exec))
		mux.Handle(method+" /attach/{token}", s.admit(verbAttach, s.attach))
		mux.Handle(method+" /portforward/{token}", s.admit(verbPortForward, s.portForward))
	}
	return mux
}

// admit lets the holder of an unused token in. run owns the session: a connection
// that it upgraded is closed when it returns; one that it refused is net/http's,
// which still has the refusal to send.
func (s *Server) admit(v verb, run func(*visit)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		granted, ok := s.tokens.take(v, r.PathValue("token"))
		if !ok {
			http.Error(w, "this URL was used already or has expired", http.StatusNotFound)
			return
		}
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			http.Error(w, fmt.Sprintf("all %d sessions are in use", cap(s.slots)), http.StatusServiceUnavailable)
			return
		}
		s.sessions.Add(1)
		defer s.sessions.Done()
		conn := r.Context().Value(connKey{}).(*clientConn)
		run(&visit{ctx: trace.ContextWithSpan(conn.ctx, granted.span), conn: conn, w: w, r: r, grant: granted})
	})
}

// visit is one client at the door, with its permission checked.
type visit struct {
	ctx   context.Context
	conn  *clientConn
	w     http.ResponseWriter
	r     *http.Request
	grant grant
}

// Exec returns the URL at which the command will run: once, and not after a minute. With 1,000 of
// them outstanding it is pod.ErrExhausted. So it is with Attach and PortForward.
func (s *Server) Exec(ctx context.Context, request *runtime.ExecRequest) (string, error) {
	return s.url(ctx, verbExec, request)
}

// Attach returns the URL at which the container's streams can be joined.
func (s *Server) Attach(ctx context.Context, request *runtime.AttachRequest) (string, error) {
	return s.url(ctx, verbAttach, request)
}

// PortForward returns the URL at which the pod's ports can be reached.
func (s *Server) PortForward(ctx context.Context, request *runtime.PortForwardRequest) (string, error) {
	return s.url(ctx, verbPortForward, request)
}

func (s *Server) url(ctx context.Context, v verb, request any) (string, error) {
	token, err := s.tokens.issue(grant{verb: v, request: request, span: trace.SpanFromContext(ctx)})
	if err != nil {
		return "", err
	}
	at := s.base
	at.Path = path.Join("/", string(v), token)
	return at.String(), nil
}

// Close stops listening, ends every session and waits for them, up to ten seconds.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	if end := <-s.served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-time.After(closeBound):
		return errors.Join(err, fmt.Errorf("end streaming sessions: %d still run after %v", len(s.slots), closeBound))
	}
}
