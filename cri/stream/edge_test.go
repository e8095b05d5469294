package stream_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gorilla/websocket"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/cri/stream"
	"github.com/vitrine-runtime/vitrine/test/criclient"
)

func TestSessionsRunOverTLSAndFollowTheCertificate(t *testing.T) {
	dir := t.TempDir()
	config := stream.Config{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	if _, err := stream.Listen(config, newShell(), nil); err == nil {
		t.Fatal("a missing certificate was accepted")
	}
	selfSigned(t, config, 1)
	server := listen(t, config, newShell())
	for serial := int64(1); serial <= 2; serial++ {
		for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
			url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"both"}, Stdout: true, Stderr: true})
			if !strings.HasPrefix(url, "https://") {
				t.Fatal(url)
			}
			if code, err := criclient.Run(t.Context(), transport, url, criclient.Streams{Stdout: io.Discard, Stderr: io.Discard}); err != nil || code != 3 {
				t.Errorf("%s: code %d, %v", transport, code, err)
			}
			if got := criclient.PeerSerial(t.Context(), url); got != serial {
				t.Errorf("certificate %d is served, want %d", got, serial)
			}
		}
		selfSigned(t, config, 2)
	}
}

// selfSigned writes a certificate with this serial number.
func selfSigned(t *testing.T, config stream.Config, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "node"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		config.KeyFile: {Type: "PRIVATE KEY", Bytes: private}, config.CertFile: {Type: "CERTIFICATE", Bytes: cert},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Duration(serial) * time.Second) // a coarse clock must not hide the change
	if err := os.Chtimes(config.CertFile, later, later); err != nil {
		t.Fatal(err)
	}
}

func TestMessagesInFragmentsAreOneStream(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
	conn, err := criclient.DialWebSocket(t.Context(), url, "v5.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	input := bytes.Repeat([]byte("0123456789"), 20_000) // several frames of the client's 32 KiB buffer
	w, err := conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte{0})
	w.Write(input)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	conn.WriteMessage(websocket.BinaryMessage, []byte{255, 0})
	var got []byte
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			break
		}
		if message[0] == 1 {
			got = append(got, message[1:]...)
		}
	}
	if !bytes.Equal(got, input) {
		t.Errorf("%d bytes came back of %d", len(got), len(input))
	}
}

func TestBrowsersSpeakBase64(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
	conn, err := criclient.DialWebSocket(t.Context(), url, "base64.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMessage(websocket.TextMessage, []byte("0"+base64.StdEncoding.EncodeToString([]byte("hello")))); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if kind != websocket.TextMessage || message[0] != '1' {
			t.Fatalf("message of kind %d: %q", kind, message)
		}
		if text, _ := base64.StdEncoding.DecodeString(string(message[1:])); len(text) > 0 {
			if string(text) != "hello" {
				t.Errorf("got %q", text)
			}
			return
		}
	}
}

func TestUnknownSubprotocolIsRefused(t *testing.T) {
	server := listen(t, stream.Config{}, newShell())
	base := runtime.NumGoroutine()
	url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
	if _, err := criclient.DialWebSocket(t.Context(), url, "v9.channel.k8s.io"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v", err)
	}
	url = execURL(t, server, &criapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
	if _, err := criclient.DialSPDY(t.Context(), url, "v9.channel.k8s.io"); err == nil {
		t.Error("SPDY accepted an unknown version")
	}
	url = execURL(t, server, &criapi.ExecRequest{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
	if code := get(t, url); code != http.StatusBadRequest {
		t.Errorf("a request that upgrades nothing: %d", code)
	}
	settle(t, base)
}

// A pile of unread input hides the client's end from whoever reads; the session
// must end all the same.
func TestCommandEndsWithItsClientThoughInputIsUnread(t *testing.T) {
	shell := newShell()
	server := listen(t, stream.Config{}, shell)
	base := runtime.NumGoroutine()
	for _, transport := range []criclient.Transport{criclient.SPDY, criclient.WebSocket} {
		url := execURL(t, server, &criapi.ExecRequest{Cmd: []string{"sleep"}, Stdin: true, Stdout: true})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		input := iotest.OneByteReader(strings.NewReader(strings.Repeat("x", 1000))) // as many frames
		criclient.Run(ctx, transport, url, criclient.Streams{Stdin: input, Stdout: io.Discard})
		cancel()
	}
	for range 2 {
		select {
		case <-shell.ended:
		case <-time.After(15 * time.Second):
			t.Fatal("a command goes on without a client")
		}
	}
	settle(t, base)
}

func TestSessionsAreBounded(t *testing.T) {
	server := listen(t, stream.Config{MaxSessions: 1}, newShell())
	first, err := criclient.Forward(t.Context(), criclient.SPDY, forwardURL(t, server))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := criclient.Forward(t.Context(), criclient.SPDY, forwardURL(t, server)); err == nil || !strings.Contains(err.Error(), "all 1 sessions") {
		t.Errorf("the second session: %v", err)
	}
	first.Close()
	for range 100 {
		if third, err := criclient.Forward(t.Context(), criclient.SPDY, forwardURL(t, server)); err == nil {
			third.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("an ended session keeps its place")
}
