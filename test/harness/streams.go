package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/vitrine-runtime/vitrine/test/criclient"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Output is what a streamed command said.
type Output struct {
	Stdout, Stderr string
	Exit           int32
}

// ExecStream runs a command through the Exec endpoint with stdin, to its end.
func (c *CRI) ExecStream(ctx context.Context, transport criclient.Transport, id, stdin string, cmd ...string) (Output, error) {
	r, err := c.RuntimeServiceClient.Exec(ctx, &runtime.ExecRequest{ContainerId: id, Cmd: cmd, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return Output{}, err
	}
	var stdout, stderr bytes.Buffer
	exit, err := criclient.Run(ctx, transport, r.Url, criclient.Streams{Stdin: bytes.NewReader([]byte(stdin)), Stdout: &stdout, Stderr: &stderr})
	return Output{stdout.String(), stderr.String(), exit}, err
}

// Echo sends a message to a port of the pod through PortForward, half-closes, and
// returns what came back.
func (c *CRI) Echo(ctx context.Context, transport criclient.Transport, sandbox string, port int32, message string) (string, error) {
	r, err := c.PortForward(ctx, &runtime.PortForwardRequest{PodSandboxId: sandbox, Port: []int32{port}})
	if err != nil {
		return "", err
	}
	f, err := criclient.Forward(ctx, transport, r.Url)
	if err != nil {
		return "", err
	}
	defer f.Close()
	conn, err := f.Dial(int(port))
	if err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte(message)); err != nil {
		return "", fmt.Errorf("write to port %d: %w", port, err)
	}
	if err := conn.Close(); err != nil {
		return "", fmt.Errorf("half-close port %d: %w", port, err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("read from port %d: %w", port, err)
	}
	return string(answer), conn.Err()
}

// AttachOnce attaches to a container that echoes its standard input, sends a
// line, and returns the first line that comes back; then it goes away.
func (c *CRI) AttachOnce(ctx context.Context, transport criclient.Transport, id, line string) (string, error) {
	r, err := c.Attach(ctx, &runtime.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, send := io.Pipe()
	got := &firstLine{done: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := criclient.Run(ctx, transport, r.Url, criclient.Streams{Stdin: in, Stdout: got, Stderr: io.Discard})
		ended <- err
	}()
	defer send.Close()
	if _, err := io.WriteString(send, line+"\n"); err != nil {
		return "", fmt.Errorf("write to attached container: %w", err)
	}
	select {
	case <-got.done:
		cancel()
		send.Close()
		<-ended
		return got.text, nil
	case err := <-ended:
		return "", fmt.Errorf("attach ended before it answered: %w", err)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// firstLine keeps what is written up to the first newline. One writer.
type firstLine struct {
	buf  []byte
	text string
	done chan struct{}
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.text == "" {
		f.buf = append(f.buf, p...)
		if line, _, found := bytes.Cut(f.buf, []byte("\n")); found {
			f.text = string(line)
			close(f.done)
		}
	}
	return len(p), nil
}
