package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/vitrine-runtime/vitrine/lifecycle"
)

// commandVersions are the versions of exec and attach over SPDY. Version 1 cannot
// close stdin and has no client left.
var commandVersions = []string{
	remotecommand.StreamProtocolV4Name, remotecommand.StreamProtocolV3Name, remotecommand.StreamProtocolV2Name,
}

// commandSPDY serves a command over a SPDY connection with one stream each for
// stdin, stdout, stderr, terminal sizes and the status.
func (s *Server) commandSPDY(v *visit, want wanted, run func(context.Context, lifecycle.Streams) status) error {
	version, err := httpstream.Handshake(v.r, v.w, commandVersions)
	if err != nil {
		return err // the client was told
	}
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	opened := newStreamSet(want, version)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(v.w, v.r, opened.offer)
	if conn == nil {
		return errors.New("the SPDY upgrade failed")
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer v.conn.Close()
	defer conn.Close()
	helpers.Go(func() { endWith(conn, v.conn) })
	if err := opened.wait(ctx, s.config.CreationTimeout); err != nil {
		return err
	}

	var streams lifecycle.Streams
	if want.stdin {
		streams.Stdin = opened.streams[remotecommand.StreamTypeStdin]
	}
	if want.stdout {
		streams.Stdout = opened.streams[remotecommand.StreamTypeStdout]
	}
	if want.stderr {
		streams.Stderr = opened.streams[remotecommand.StreamTypeStderr]
	}
	if resize := opened.streams[remotecommand.StreamTypeResize]; resize != nil {
		sizes := make(chan lifecycle.Size)
		streams.Resize = sizes
		helpers.Go(func() { decodeSizes(ctx, resize, sizes) })
	}

	result := run(ctx, streams)
	cancel()
	for _, input := range []string{remotecommand.StreamTypeStdin, remotecommand.StreamTypeResize} {
		if stream := opened.streams[input]; stream != nil {
			stream.Reset() // what still arrives is dropped and cannot block
		}
	}
	for _, output := range []string{remotecommand.StreamTypeStdout, remotecommand.StreamTypeStderr} {
		if stream := opened.streams[output]; stream != nil {
			stream.Close()
		}
	}
	text := result.structured()
	if version != remotecommand.StreamProtocolV4Name {
		text = result.plain()
	}
	told := opened.streams[remotecommand.StreamTypeError]
	if text != nil {
		told.Write(text) // a client that is gone is not told
	}
	told.Close()
	v.conn.linger(lingerBound)
	return nil
}

// endWith ends the connection under conn when conn is closed from either side.
func endWith(conn httpstream.Connection, under *clientConn) {
	select {
	case <-conn.CloseChan():
		under.end(errClientGone)
	case <-under.ctx.Done():
	}
}

// streamSet collects the streams that a session needs. The client opens them in
// any order; one that is not needed, or the second of a kind, is refused, and so is
// every later one.
type streamSet struct {
	ready chan struct{} // closed when all are there

	mu      sync.Mutex // guards the rest until ready is closed
	missing map[string]bool
	streams map[string]httpstream.Stream
	replies []<-chan struct{}
}

func newStreamSet(want wanted, version string) *streamSet {
	missing := map[string]bool{remotecommand.StreamTypeError: true}
	for kind, wanted := range map[string]bool{
		remotecommand.StreamTypeStdin: want.stdin, remotecommand.StreamTypeStdout: want.stdout,
		remotecommand.StreamTypeStderr: want.stderr,
		remotecommand.StreamTypeResize: want.tty && version != remotecommand.StreamProtocolV2Name,
	} {
		if wanted {
			missing[kind] = true
		}
	}
	return &streamSet{ready: make(chan struct{}), missing: missing, streams: map[string]httpstream.Stream{}}
}

// offer takes a stream that the client opened, or refuses it. It never blocks: the
// connection's reader waits for it.
func (s *streamSet) offer(stream httpstream.Stream, replySent <-chan struct{}) error {
	kind := stream.Headers().Get(remotecommand.StreamType)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.missing[kind] {
		return fmt.Errorf("a stream of type %.40q is not expected", kind)
	}
	delete(s.missing, kind)
	s.streams[kind] = stream
	s.replies = append(s.replies, replySent)
	if len(s.missing) == 0 {
		close(s.ready)
	}
	return nil
}

// wait returns when all streams are open and acknowledged.
func (s *streamSet) wait(ctx context.Context, bound time.Duration) error {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-s.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("the client did not open its streams within %v", bound)
	}
	for _, sent := range s.replies {
		select {
		case <-sent:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
