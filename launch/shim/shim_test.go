package shim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/vitrine-runtime/vitrine/launch"
)

func TestStartsAnswerIsAnAddress(t *testing.T) {
	for out, want := range map[string]string{
		"unix:///run/containerd/s/abc": "unix:///run/containerd/s/abc",
		"/run/s\n":                     "/run/s",
		`{"version":3,"address":"unix:///run/s","protocol":"ttrpc"}`: "unix:///run/s",
		`{"version":3,"address":"unix:///run/s","protocol":"grpc"}`:  "",
		"":      "",
		"oops":  "",
		"{oops": "",
	} {
		got, err := parseAddress([]byte(out))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", out, got, err, want)
		}
	}
}

// frame is a response on the wire.
func frame(kind byte, body message) []byte {
	b := make([]byte, headerSize)
	binary.BigEndian.PutUint32(b, uint32(len(body)))
	b[8] = kind
	return append(b, body...)
}

func TestResponseIsAPayloadOrTheShimsError(t *testing.T) {
	status := message(nil).uint(1, codeNotFound).text(2, "no such process")
	payload, err := response(bytes.NewReader(frame(typeResponse, message(nil).text(2, string(message(nil).uint(1, 137))))))
	if n, numberErr := number(payload, 1); err != nil || numberErr != nil || n != 137 {
		t.Errorf("got %d, %v, %v", n, err, numberErr)
	}
	_, err = response(bytes.NewReader(frame(typeResponse, message(nil).text(1, string(status)))))
	var remote *remoteError
	if !errors.As(err, &remote) || remote.code != codeNotFound || ignoreGone(err) != nil {
		t.Errorf("got %v", err)
	}
	for name, bad := range map[string][]byte{
		"cut header": frame(typeResponse, nil)[:5],
		"cut body":   frame(typeResponse, status)[:headerSize+3],
		"wrong type": frame(typeRequest, nil),
		"too long":   {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, typeResponse, 0},
		"no message": frame(typeResponse, message{0xff}),
	} {
		if _, err := response(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzResponseNeverPanics(f *testing.F) {
	f.Add(frame(typeResponse, message(nil).text(2, "x")))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = response(bytes.NewReader(b)) })
}

func TestErrorsAreOneLineOfTheRightKind(t *testing.T) {
	for _, c := range []struct {
		step, text string
		kind       launch.Kind
		want       string
	}{
		{"shim.create", `OCI runtime create failed: runc create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown`,
			launch.KindNotFound, `exec "nosuch": executable file not found in $PATH`},
		{"shim.exec", "process already finished: not found", launch.KindGone, "x: process already finished: not found"},
		{"shim.create", "a\nb: unknown", launch.KindInternal, "x: a b"},
	} {
		e := fault(c.step, "/bin/x", &remoteError{2, c.text})
		if e.Kind != c.kind || e.Message != c.want || strings.Contains(e.Message, "\n") {
			t.Errorf("%q: %s %q, want %s %q", c.text, e.Kind, e.Message, c.kind, c.want)
		}
	}
}
