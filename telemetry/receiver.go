package telemetry

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Bounds of one report.
const (
	// maxReport is the size of a body in bytes, after decompression too.
	maxReport = 4 << 20
	// reportTimeout bounds reading and answering one report.
	reportTimeout = 10 * time.Second
	closeBound    = 2 * time.Second
)

// Receiver takes OTLP over HTTP (protobuf) on a unix socket from the monitors:
// POST /v1/traces, /v1/logs and /v1/metrics. Only root and the daemon's own user
// may connect. Close ends it.
type Receiver struct {
	server *http.Server
	path   string
	done   sync.WaitGroup
}

// Receive starts a Receiver at path, in place of whatever was there. The socket
// appears under its name with mode 0600, ready to accept.
func (t *Telemetry) Receive(path string) (*Receiver, error) {
	listener, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("open telemetry receiver: %w", err)
	}
	r := &Receiver{path: path, server: &http.Server{
		Handler:           t.ReceiverHandler(),
		ReadHeaderTimeout: reportTimeout, ReadTimeout: reportTimeout, WriteTimeout: reportTimeout,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(t.logs.handler, slog.LevelDebug),
	}}
	r.done.Go(func() {
		if err := r.server.Serve(peers{listener}); !errors.Is(err, http.ErrServerClosed) {
			t.Logger().Error("telemetry receiver ended", "cause", err)
		}
	})
	return r, nil
}

// Close lets reports that have begun end, at most for two seconds, and removes the socket.
func (r *Receiver) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeBound)
	defer cancel()
	err := r.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close telemetry receiver: %w", err), r.server.Close())
	}
	r.done.Wait()
	if e := os.Remove(r.path); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("close telemetry receiver: %w", e))
	}
	return err
}

// listenUnix binds beside path, sets the mode and renames, so that the socket is
// never seen with another mode. The directory is entered by descriptor because a
// socket's address has room for 107 bytes only.
func listenUnix(path string) (*net.UnixListener, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Dir(path), err)
	}
	defer unix.Close(dir)
	name := filepath.Base(path)
	fresh := "." + name + ".new"
	if err := unix.Unlinkat(dir, fresh, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, fresh)})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // its name changes now
	if err := unix.Fchmodat(dir, fresh, 0o600, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict socket: %w", err), listener.Close())
	}
	if err := unix.Renameat(dir, fresh, dir, name); err != nil {
		return nil, errors.Join(fmt.Errorf("name socket: %w", err), listener.Close())
	}
	return listener, nil
}

// peers lets only root and our own user in.
type peers struct{ *net.UnixListener }

// Accept closes connections of anyone else and goes on.
func (p peers) Accept() (net.Conn, error) {
	for {
		conn, err := p.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if trusted(conn) {
			return conn, nil
		}
		conn.Close() // a stranger is owed no answer
	}
}

func trusted(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return err == nil && ok
}

// ReceiverHandler is what a Receiver serves, for servers of one's own.
func (t *Telemetry) ReceiverHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/traces", t.report("traces", func(body []byte) (proto.Message, error) {
		var m collectortrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		answer := &collectortrace.ExportTraceServiceResponse{}
		if refused := t.receiveTraces(&m); refused > 0 {
			answer.PartialSuccess = &collectortrace.ExportTracePartialSuccess{
				RejectedSpans: int64(refused), ErrorMessage: "spans need a name, a start, a trace id and a span id"}
		}
		return answer, nil
	}))
	mux.Handle("/v1/logs", t.report("logs", func(body []byte) (proto.Message, error) {
		var m collectorlogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		t.receiveLogs(&m)
		return &collectorlogs.ExportLogsServiceResponse{}, nil
	}))
	mux.Handle("/v1/metrics", t.report("metrics", func(body []byte) (proto.Message, error) {
		var m collectormetrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		t.receiveMetrics(&m)
		return &collectormetrics.ExportMetricsServiceResponse{}, nil
	}))
	return mux
}

// report is the HTTP side of one signal: method, content type, bounds, answer.
func (t *Telemetry) report(signal string, take func(body []byte) (proto.Message, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		code := http.StatusOK
		defer func() { t.metrics.add(receiverRequests, 1, signal, strconv.Itoa(code)) }()
		fail := func(status int, why string) {
			code = status
			http.Error(w, why, status)
		}
		if req.Method != http.MethodPost {
			fail(http.StatusMethodNotAllowed, "POST only")
			return
		}
		if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/x-protobuf" {
			fail(http.StatusUnsupportedMediaType, "Content-Type must be application/x-protobuf")
			return
		}
		body, err := readReport(w, req)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			fail(http.StatusRequestEntityTooLarge, fmt.Sprintf("a report has at most %d bytes", maxReport))
			return
		case err != nil:
			fail(http.StatusBadRequest, "body cannot be read")
			return
		}
		answer, err := take(body)
		if err != nil {
			fail(http.StatusBadRequest, "body is no OTLP "+signal+" request")
			return
		}
		raw, err := proto.Marshal(answer)
		if err != nil {
			fail(http.StatusBadRequest, "answer cannot be encoded")
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(raw) // an error means that the monitor has gone; it will report again
	})
}

// readReport reads a body, plain or gzip, within maxReport bytes.
func readReport(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	limited := http.MaxBytesReader(w, req.Body, maxReport)
	switch strings.TrimSpace(req.Header.Get("Content-Encoding")) {
	case "", "identity":
		return io.ReadAll(limited)
	case "gzip":
		unzip, err := gzip.NewReader(limited)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(unzip, maxReport+1))
		if err == nil && len(body) > maxReport {
			err = &http.MaxBytesError{Limit: maxReport}
		}
		return body, err
	}
	return nil, errors.New("unknown content encoding")
}
