package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// No umask is needed for that: it would be that of every monitor that begins at this moment.
func TestSocketIsPrivateFromTheBeginning(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "s")
	listener, err := listenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v (%v)", info.Mode(), err)
	}
	if now := unix.Umask(0); now != 0 {
		t.Errorf("the process's umask has become %#o", now)
	}
	again, err := listenUnix(path, 0o660, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("in the end its mode is %v (%v)", info.Mode(), err)
	}
}

// An answer of some megabytes is out of the daemon's hands before the client has read any
// of it.
func TestAListFitsTheSocketOfAClientThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := listenUnix(path, 0o600, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	raw, err := client.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var may error
	raw.Control(func(fd uintptr) { may = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) })
	if errors.Is(may, unix.EPERM) {
		t.Skip("without CAP_NET_ADMIN net.core.wmem_max bounds a socket's buffer")
	}
	server, err := roomy{listener}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.SetWriteDeadline(time.Now().Add(time.Minute))
	piece := make([]byte, 32<<10) // as gRPC writes
	for written := 0; written < 3<<20; written += len(piece) {
		if _, err := server.Write(piece); err != nil {
			t.Fatalf("after %d bytes: %v", written, err)
		}
	}
}
