package stream_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/vitrine-runtime/vitrine/cri/stream"
	"github.com/vitrine-runtime/vitrine/test/criclient"
)

// everyTransport runs f over each way that a client may choose.
func everyTransport(t *testing.T, f func(t *testing.T, run runner)) {
	for name, run := range map[string]runner{
		"spdy": func(ctx context.Context, url string, s criclient.Streams) (int32, error) {
			return criclient.Run(ctx, criclient.SPDY, url, s)
		},
		"websocket v5": func(ctx context.Context, url string, s criclient.Streams) (int32, error) {
			return criclient.Run(ctx, criclient.WebSocket, url, s)
		},
		"websocket v4": func(ctx context.Context, url string, s criclient.Streams) (int32, error) {
			return criclient.RunProtocol(ctx, "v4.channel.k8s.io", url, s)
		},
	} {
		t.Run(name, func(t *testing.T) { f(t, run) })
	}
}

type runner func(ctx context.Context, url string, s criclient.Streams) (int32, error)

func TestExecCarriesOutputAndExitCode(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	everyTransport(t, func(t *testing.T, run runner) {
		var stdout, stderr bytes.Buffer
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"both"}, Stdout: true, Stderr: true})
		code, err := run(t.Context(), url, criclient.Streams{Stdout: &stdout, Stderr: &stderr})
		if err != nil || code != 3 || stdout.String() != "out of c1" || stderr.String() != "err" {
			t.Fatalf("code %d, %v, stdout %q, stderr %q", code, err, &stdout, &stderr)
		}
	})
}

func TestFailureReachesTheClientAsText(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	everyTransport(t, func(t *testing.T, run runner) {
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"fail"}, Stdout: true})
		_, err := run(t.Context(), url, criclient.Streams{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "no such command") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestClosingStdinEndsTheCommandAndNotItsOutput(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	input := strings.Repeat("0123456789abcde\n", 1<<16)                                    // 1 MiB
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} { // version 4 cannot close stdin
		t.Run(string(transport), func(t *testing.T) {
			var stdout bytes.Buffer
			url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
			code, err := criclient.Run(t.Context(), transport, url, criclient.Streams{Stdin: strings.NewReader(input), Stdout: &stdout})
			if err != nil || code != 0 || stdout.String() != input {
				t.Fatalf("code %d, %v, %d bytes of %d", code, err, stdout.Len(), len(input))
			}
		})
	}
}

func TestOutputIsWholeThoughInputIsNeverRead(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	everyTransport(t, func(t *testing.T, run runner) {
		const size = 8 << 20
		var stdout bytes.Buffer
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"zeros", "8388608"}, Stdin: true, Stdout: true})
		code, err := run(t.Context(), url, criclient.Streams{Stdin: bytes.NewReader(make([]byte, 4<<20)), Stdout: &stdout})
		if err != nil || code != 0 || stdout.Len() != size {
			t.Fatalf("code %d, %v, %d bytes of %d", code, err, stdout.Len(), size)
		}
	})
}

func TestTerminalSizesArriveInOrder(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	everyTransport(t, func(t *testing.T, run runner) {
		sizes := make(chan criclient.Size, 3)
		for i := range uint16(3) {
			sizes <- criclient.Size{Width: 80 + i, Height: 24}
		}
		close(sizes)
		var stdout bytes.Buffer
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"sizes", "3"}, Tty: true, Stdout: true})
		_, err := run(t.Context(), url, criclient.Streams{TTY: true, Resize: sizes, Stdout: &stdout})
		if err != nil || stdout.String() != "80x24 81x24 82x24 " {
			t.Fatalf("%v, %q", err, &stdout)
		}
	})
}

func TestAttachEndsWhenStdinDoes(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
		url, err := server.Attach(t.Context(), &criapi.AttachRequest{ContainerId: "c1", Stdin: true, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		var stdout bytes.Buffer
		if _, err := criclient.Run(t.Context(), transport, url, criclient.Streams{Stdin: strings.NewReader("hi"), Stdout: &stdout}); err != nil || stdout.String() != "hi" {
			t.Errorf("%s: %v, %q", transport, err, &stdout)
		}
	}
}

func TestURLWorksOnce(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"both"}, Stdout: true, Stderr: true})
	for _, wrong := range []string{strings.Replace(url, "/exec/", "/attach/", 1), url + "x"} {
		if code := get(t, wrong); code != http.StatusNotFound {
			t.Errorf("GET %s: %d", wrong, code)
		}
	}
	streams := criclient.Streams{Stdout: io.Discard, Stderr: io.Discard}
	if _, err := criclient.Run(t.Context(), criclient.SPDY, url, streams); err != nil {
		t.Fatalf("the first use: %v", err)
	}
	if _, err := criclient.Run(t.Context(), criclient.SPDY, url, streams); err == nil || !strings.Contains(err.Error(), "used already") {
		t.Fatalf("the second use: %v", err)
	}
}

func TestCommandEndsWithItsClient(t *testing.T) {
	shell := newShell()
	server := listen(t, stream.Config{}, shell)
	base := runtime.NumGoroutine()
	everyTransport(t, func(t *testing.T, run runner) {
		ctx, cancel := context.WithCancel(t.Context())
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"sleep"}, Stdout: true})
		time.AfterFunc(50*time.Millisecond, cancel)
		run(ctx, url, criclient.Streams{Stdout: io.Discard})
		select {
		case cause := <-shell.ended:
			if cause == nil || !strings.Contains(cause.Error(), "client closed") {
				t.Errorf("the command ended because of %v", cause)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the command goes on without a client")
		}
	})
	settle(t, base)
}

func TestIdleSessionEnds(t *testing.T) {
	shell := newShell()
	server := listen(t, stream.Config{IdleTimeout: 100 * time.Millisecond}, shell)
	everyTransport(t, func(t *testing.T, run runner) {
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"sleep"}, Stdout: true})
		run(t.Context(), url, criclient.Streams{Stdout: io.Discard})
		if cause := <-shell.ended; cause == nil || !strings.Contains(cause.Error(), "idle") {
			t.Errorf("the command ended because of %v", cause)
		}
	})
}

func TestCloseEndsSessions(t *testing.T) {
	base := runtime.NumGoroutine()
	shell := newShell()
	server, err := stream.Listen(stream.Config{}, shell, nil)
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"sleep"}, Stdout: true})
		clients.Go(func() { criclient.Run(t.Context(), transport, url, criclient.Streams{Stdout: io.Discard}) })
	}
	time.Sleep(100 * time.Millisecond)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
	settle(t, base)
}

// A session that fails, in every way a client can make it fail, leaves nothing.
func TestFailingSessionsLeaveNoGoroutine(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	base := runtime.NumGoroutine()
	const rounds = 1000
	var clients sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range rounds {
		slots <- struct{}{}
		clients.Go(func() {
			defer func() { <-slots }()
			url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"fail"}, Tty: true, Stdin: true, Stdout: true})
			sizes := make(chan criclient.Size, 2)
			sizes <- criclient.Size{Width: 80, Height: 24}
			sizes <- criclient.Size{Width: 81, Height: 24}
			close(sizes)
			transport := criclient.SPDY
			if i%2 == 1 {
				transport = criclient.WebSocket
			}
			_, err := criclient.Run(t.Context(), transport, url, criclient.Streams{
				TTY: true, Stdin: strings.NewReader("x"), Stdout: io.Discard, Resize: sizes,
			})
			if err == nil || !strings.Contains(err.Error(), "no such command") {
				t.Errorf("round %d over %s: %v", i, transport, err)
			}
		})
	}
	clients.Wait()
	settle(t, base)
}

func TestClientThatOpensTheWrongStreamsLeavesNoGoroutine(t *testing.T) {
	server := listen(t, stream.Config{CreationTimeout: 300 * time.Millisecond}, newShell())
	base := runtime.NumGoroutine()
	for name, kinds := range map[string][]string{
		"none":      nil,
		"too few":   {"error"},
		"unwanted":  {"error", "stderr"},
		"twice":     {"error", "error"},
		"too many":  {"error", "stdin", "stdout", "stdout", "stdin", "bogus", "bogus", "bogus", "error", "resize", "resize"},
		"anonymous": {"", "", "", "", "", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"sleep"}, Stdin: true, Stdout: true})
			conn, err := criclient.DialSPDY(t.Context(), url, remotecommand.StreamProtocolV4Name)
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range kinds {
				conn.CreateStream(http.Header{"Streamtype": {kind}})
			}
			if name != "too many" { // that one has a session; the others must be hung up on
				select {
				case <-conn.CloseChan():
				case <-time.After(5 * time.Second):
					t.Error("the server keeps a client without a session")
				}
			}
			conn.Close()
		})
	}
	settle(t, base)
}
