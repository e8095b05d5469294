package host

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// defaultApparmor is the profile that RuntimeDefault means when the administrator
// names none. The daemon loads it at each start, so it is that of this version.
const defaultApparmor = "vitrine-default"

// apparmorBound is how long compiling and loading the profile may take. It takes some
// ten milliseconds; an emulated machine needs seconds.
const apparmorBound = 30 * time.Second

// apparmorProfile is the text of the default profile in the language of apparmor.d(5).
// It allows what capabilities, seccomp and namespaces leave, and takes away what would
// reach the host if one of those were misconfigured: mounts, the kernel's parameters
// and devices in /proc and /sys, the memory of the host's processes.
//
// It includes no file of the host and names no ABI, so that it means the same with every
// parser since 3.0: what a newer kernel mediates beyond that stays unmediated. mount and
// pivot_root are not allowed by being left out, for an explicit deny would keep the
// attempt out of the audit log.
func apparmorProfile(name string) string {
	return fmt.Sprintf(`profile %[1]s flags=(attach_disconnected,mediate_deleted) {
  capability,
  network,
  file,
  unix,
  dbus,
  umount,

  # The runtime and people on the host end and signal containers; containers do so
  # among themselves and to nobody else.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=%[1]s,
  ptrace (read, trace, readby, tracedby) peer=%[1]s,

  # /proc: processes may be written to, the kernel may not.
  deny /proc/* wkl,
  deny /proc/{acpi,asound,bus,driver,dynamic_debug,fs,irq,scsi,sys,tty}/** wkl,
  deny /proc/{kcore,kpagecgroup,kpagecount,kpageflags,sysrq-trigger} rwklx,

  # /sys: only the container's own cgroup may be written to.
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wkl,
  deny /sys/fs/[^c]** wkl,
  deny /sys/{firmware,kernel/debug,kernel/security,kernel/tracing}/** rwklx,
}
`, name)
}

// loadApparmor compiles the profile and replaces the loaded one of its name; what runs
// under it is under the new one at once. The kernel takes compiled profiles only, and
// apparmor_parser(8) is the only compiler.
func loadApparmor(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, apparmorBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, apparmorParser(), "--replace", "--skip-cache", "--quiet")
	cmd.Stdin = strings.NewReader(apparmorProfile(name))
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load AppArmor profile %s: %w: %.300s", name, cmp.Or(ctx.Err(), err), strings.TrimSpace(said.String()))
	}
	return nil
}

// apparmorParser looks where distributions put it, too: a service's PATH may lack it.
func apparmorParser() string {
	for _, path := range []string{"apparmor_parser", "/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return "apparmor_parser"
}
