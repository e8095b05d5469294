package incidents

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// certified is a registry whose certificate is good between two moments.
func certified(t testing.TB, from, to time.Time) *httptest.Server {
	t.Helper()
	key := harness.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	certificate := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der := harness.Must(x509.CreateCertificate(rand.Reader, &certificate, &certificate, &key.PublicKey, key))(t)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	return s
}

// smallStore puts the image store on a file system of its own, which is small.
func smallStore(t *testing.T, dir, size string) harness.Options {
	root := filepath.Join(dir, "small")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("umount", "-R", root).Run()
		unix.Unmount(root, unix.MNT_DETACH)
	})
	return harness.Options{Config: fmt.Sprintf("[image]\nroot = %q\n", filepath.Join(root, "storage"))}
}

// tmpfs is a volume of the host.
func (w *world) tmpfs(name, options string) (path string) {
	w.Helper()
	path = w.folder(name)
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		w.Fatal(err)
	}
	w.undo = append(w.undo, func() { unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// swiftly runs a container of which every call was quick, in a pod on the host's network: on
// a busy machine a call that takes more than a second is worth telling, and no fault of the
// verdict. A pod that was slow makes room for one of the same name.
func (w *world) swiftly(command ...string) {
	w.Helper()
	const tries, quick = 20, 800 * time.Millisecond
	for range tries {
		w.pod.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
		began := time.Now()
		w.container(nil, command...)
		if time.Since(began) < quick {
			return
		}
		w.removePods()
		w.pod, w.sandbox = w.Pod(w.pod.Metadata.Name), ""
	}
	w.Fatalf("none of %d pods was up within %v", tries, quick)
}

// folder is a directory that everybody may use.
func (w *world) folder(name string) (path string) {
	w.Helper()
	path = filepath.Join(w.dir, name)
	if err := os.Mkdir(path, 0o777); err != nil {
		w.Fatal(err)
	}
	return path
}

// watchless runs a program that watches a file in a pod whose user namespace may have
// no watches (namespaces(7), /proc/sys/user).
func (w *world) watchless() {
	w.Helper()
	ids := []*cri.IDMapping{{HostId: 200000, ContainerId: 0, Length: 65536}}
	w.pod.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
	id, _ := w.container(nil, "/bin/sh", "-c", "echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done; exec payload watch /etc")
	w.logged(id, "ready")
	pid, _ := w.init(id)
	limit := exec.Command("nsenter", "--target", fmt.Sprint(pid), "--user", "--", "/bin/sh", "-c", "echo 0 >/proc/sys/user/max_inotify_watches")
	if out, err := limit.CombinedOutput(); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	if r := harness.Must(w.cri.Exec(w.ctx, id, 30, "/bin/touch", "/tmp/go"))(w); r.ExitCode != 0 {
		w.Fatalf("%s", r.Stderr)
	}
	harness.Must(w.cri.WaitExit(w.ctx, id))(w)
}

// Requests of the FUSE protocol (include/uapi/linux/fuse.h).
const (
	fuseLookup = 1
	fuseForget = 2
	fuseStat   = 3
	fuseInit   = 26
)

// silentFUSE is a mounted file system whose daemon shows the root directory and never
// answers what is in it.
func (w *world) silentFUSE() (path string) {
	w.Helper()
	path = w.folder("fuse")
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		w.Skipf("no FUSE on this kernel (since 2.6.14): %v", err)
	}
	if err := unix.Mount("silent", path, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device)); err != nil {
		unix.Close(device)
		w.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the mount
		defer close(done)
		request := make([]byte, 256<<10)
		for {
			n, err := unix.Read(device, request)
			if err == unix.EINTR || err == unix.ENOENT {
				continue
			}
			if err != nil {
				return
			}
			if answer := fuseAnswer(request[:n]); answer != nil {
				unix.Write(device, answer)
			}
		}
	}()
	w.undo = append(w.undo, func() {
		unix.Unmount(path, unix.MNT_FORCE|unix.MNT_DETACH) // the first flag ends what waits for an answer
		unix.Close(device)
		<-done
	})
	return path
}

// fuseAnswer is nil for what stays without one.
func fuseAnswer(request []byte) []byte {
	order := binary.NativeEndian
	var body []byte
	failure := int32(0)
	switch order.Uint32(request[4:]) {
	case fuseLookup, fuseForget:
		return nil
	case fuseInit:
		body = make([]byte, 64) // fuse_init_out
		order.PutUint32(body[0:], 7)
		order.PutUint32(body[4:], 31)
		order.PutUint32(body[20:], 4096) // max_write
	case fuseStat:
		body = make([]byte, 104)        // fuse_attr_out
		order.PutUint64(body[0:], 3600) // seconds that it is valid
		order.PutUint64(body[16:], 1)   // inode
		order.PutUint32(body[16+60:], unix.S_IFDIR|0o755)
		order.PutUint32(body[16+64:], 2)
	default:
		failure = -int32(unix.ENOSYS)
	}
	answer := make([]byte, 16, 16+len(body)) // fuse_out_header
	order.PutUint32(answer[0:], uint32(16+len(body)))
	order.PutUint32(answer[4:], uint32(failure))
	copy(answer[8:16], request[8:16])
	return append(answer, body...)
}
