package client_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// volume is an ext4 of its own that can be frozen: every write to it waits in the kernel,
// uninterruptibly, until it is thawed (ioctl_fsfreeze, FIFREEZE and FITHAW in linux/fs.h).
type volume struct {
	t      *testing.T
	dir    string
	frozen bool
}

func newVolume(t *testing.T) *volume {
	t.Helper()
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("the kernel has no loop devices: ", err)
	}
	v := &volume{t: t, dir: t.TempDir() + "/volume"}
	image := filepath.Dir(v.dir) + "/image"
	for _, args := range [][]string{{"mkdir", v.dir}, {"truncate", "-s", "256M", image}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, v.dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		for range 100 { // a monitor that was just destroyed may still have its log open
			if err := syscall.Unmount(v.dir, 0); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error("the volume cannot be unmounted")
		syscall.Unmount(v.dir, syscall.MNT_DETACH)
	})
	return v
}

func (v *volume) ioctl(request uintptr) {
	v.t.Helper()
	dir, err := os.Open(v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	defer dir.Close()
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), request, 0); e != 0 {
		v.t.Fatalf("ioctl %#x: %v", request, e)
	}
}

func (v *volume) freeze() {
	v.t.Helper()
	v.ioctl(0xc0045877)
	v.frozen = true
	v.t.Cleanup(v.thaw) // before whatever waits for a process that writes
}

func (v *volume) thaw() {
	if v.frozen {
		v.frozen = false
		v.ioctl(0xc0045878)
	}
}

// frozenBox is a container that writes lines without end, until a signal, to a log whose
// file system was frozen, and whose monitor has noticed.
func frozenBox(t *testing.T) (*box, *volume) {
	v := newVolume(t)
	b := newBox(t, "sh", "-c", `trap "exit 7" TERM; i=0; while :; do echo "line $i"; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.01; done`)
	b.spawn.LogPath = v.dir + "/0.log"
	b.start()
	b.eventually("lines", func() bool { s, err := b.m.Stats(b.ctx); return err == nil && s.LogLines > 1000 })
	v.freeze()
	b.eventually("the log's file system does not answer", func() bool {
		s, err := b.m.Stats(b.ctx)
		return err == nil && s.LogStalls == 1 && s.LogDropped > 0
	})
	return b, v
}

func TestMonitorGoesOnWhileItsLogHangs(t *testing.T) {
	b, v := frozenBox(t)
	if out, _, code := b.exec("echo", "hello"); out != "hello\n" || code != 0 {
		t.Errorf("exec: %q, %d", out, code)
	}
	if err := b.m.ReopenLog(b.ctx); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("reopen: %v", err)
	}
	before, err := b.m.Stats(b.ctx)
	b.must(err)
	b.eventually("the container is not held back", func() bool {
		s, err := b.m.Stats(b.ctx)
		return err == nil && s.LogBytesIn > before.LogBytesIn+64<<10
	})
	v.thaw()
	b.eventually("the log goes on", func() bool {
		s, err := b.m.Stats(b.ctx)
		return err == nil && s.LogStalledMillis > 0 && s.LogLines > before.LogLines+1000
	})
	b.must(os.Rename(b.spawn.LogPath, b.spawn.LogPath+".1"))
	b.must(b.m.ReopenLog(b.ctx))
	b.must(b.m.Signal(b.ctx, syscall.SIGTERM, false))
	e := b.exit()
	if e.Status != 7<<8 {
		t.Errorf("status %#x", e.Status)
	}
	old, err := os.ReadFile(b.spawn.LogPath + ".1")
	b.must(err)
	fresh, err := os.ReadFile(b.spawn.LogPath)
	b.must(err)
	var kept, markers int
	for line := range strings.Lines(content(t, append(old, fresh...))["stdout"]) {
		if strings.Contains(line, "[vitrine: ") {
			markers++
			if !strings.Contains(line, " are missing here: errno 110]") {
				t.Errorf("marker %q", line)
			}
			continue
		}
		kept += len(line)
	}
	// A line that the gap cut has an end that the container did not write.
	if markers != 1 || int64(kept)+e.LogDropped-e.LogBytes < 0 || int64(kept)+e.LogDropped-e.LogBytes > 1 {
		t.Errorf("%d markers; %d bytes in the log and %d dropped of %d", markers, kept, e.LogDropped, e.LogBytes)
	}
}

// What comes behind a disk that does not answer is dropped, not kept.
func TestMonitorStaysSmallBehindALogThatHangs(t *testing.T) {
	b, v := frozenBox(t)
	before, err := b.m.Stats(b.ctx)
	b.must(err)
	const burst = 50 << 20
	if _, text, code := b.exec("sh", "-c", fmt.Sprintf("yes %s | head -c %d > /proc/1/fd/1", strings.Repeat("x", 99), burst)); code != 0 {
		t.Fatalf("code %d: %s", code, text)
	}
	b.eventually("all that was written is dropped", func() bool {
		s, err := b.m.Stats(b.ctx)
		return err == nil && s.LogDropped >= before.LogDropped+burst
	})
	private := field(t, b.m.MonitorPID(), "smaps_rollup", "Private_Dirty")
	t.Logf("private dirty %d kB", private)
	if private > stalledLimit {
		t.Errorf("private dirty %d kB, limit %d", private, stalledLimit)
	}
	v.thaw()
}

// stalledLimit is what a monitor may cost while its log hangs, in kB: the buffers of what
// is under way, two reads' and a batch's, are in use then (796 kB were measured).
const stalledLimit = busyLimit + 400

func TestExitIsToldWhileTheLogHangs(t *testing.T) {
	b, v := frozenBox(t)
	b.must(b.m.Signal(b.ctx, syscall.SIGTERM, false))
	if e := b.exit(); e.Status != 7<<8 || e.LogDropped == 0 {
		t.Errorf("exit %+v", e)
	}
	v.thaw()
	b.must(b.m.Shutdown(b.ctx))
}

// A rotation that begins when the file system has just been frozen is the call that hangs.
func TestReopenOfALogThatHangsIsAnswered(t *testing.T) {
	v := newVolume(t)
	b := newBox(t, "sleep", "1000")
	b.spawn.LogPath = v.dir + "/0.log"
	b.start()
	b.must(os.Rename(b.spawn.LogPath, b.spawn.LogPath+".1"))
	v.freeze()
	if err := b.m.ReopenLog(b.ctx); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("reopen: %v", err)
	}
	if out, _, code := b.exec("echo", "hello"); out != "hello\n" || code != 0 {
		t.Errorf("exec: %q, %d", out, code)
	}
	v.thaw()
	b.eventually("the log can be opened again", func() bool { return b.m.ReopenLog(b.ctx) == nil })
}
