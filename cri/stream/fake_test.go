package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri/stream"
	"github.com/vitrine-runtime/vitrine/lifecycle"
)

// shell is a runtime that carries out a few commands in memory.
type shell struct {
	ended chan error // receives the reason when a "sleep" ends
}

func newShell() *shell { return &shell{ended: make(chan error, 16)} }

func (s *shell) Exec(ctx context.Context, id string, r lifecycle.ExecRequest) (int32, error) {
	arg := strings.Join(r.Cmd[1:], " ")
	switch r.Cmd[0] {
	case "cat":
		io.Copy(r.Stdout, r.Stdin)
	case "both":
		fmt.Fprintf(r.Stdout, "out of %s", id)
		fmt.Fprint(r.Stderr, "err")
		return 3, nil
	case "zeros":
		n, _ := strconv.Atoi(arg)
		block := make([]byte, 32<<10)
		for n > 0 {
			wrote, err := r.Stdout.Write(block[:min(n, len(block))])
			if err != nil {
				return 0, err
			}
			n -= wrote
		}
	case "sizes":
		n, _ := strconv.Atoi(arg)
		for range n {
			size := <-r.Resize
			fmt.Fprintf(r.Stdout, "%dx%d ", size.Width, size.Height)
		}
	case "sleep":
		<-ctx.Done()
		s.ended <- context.Cause(ctx)
		return 0, ctx.Err()
	case "fail":
		return 0, errors.New("no such command")
	}
	return 0, nil
}

func (s *shell) Attach(ctx context.Context, id string, r lifecycle.AttachRequest) error {
	_, err := io.Copy(r.Stdout, r.Stdin)
	return err
}

func (s *shell) PortForward(ctx context.Context, id string, port int32, data io.ReadWriteCloser) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		io.Copy(conn, data)
		conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(data, conn)
	return err
}

func listen(t *testing.T, config stream.Config, rt stream.Runtime) *stream.Server {
	t.Helper()
	server, err := stream.Listen(config, rt, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func execURL(t *testing.T, server *stream.Server, request *criapi.ExecRequest) string {
	t.Helper()
	request.ContainerId = "c1"
	url, err := server.Exec(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func forwardURL(t *testing.T, server *stream.Server, ports ...int32) string {
	t.Helper()
	url, err := server.PortForward(t.Context(), &criapi.PortForwardRequest{PodSandboxId: "p1", Port: ports})
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// get returns the status code of a plain request.
func get(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// settle waits until the process has at most base goroutines.
func settle(t *testing.T, base int) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for runtime.NumGoroutine() > base {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, had %d at the start:\n%s", runtime.NumGoroutine(), base, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// echo listens on loopback, sends back what it reads until its client closes, then
// says "bye".
func echo(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() { l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				io.Copy(conn, conn)
				io.WriteString(conn, "bye")
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}
