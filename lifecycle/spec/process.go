package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Bounds of execve(2): one string (MAX_ARG_STRLEN less its NUL), and all of them
// together (three quarters of _STK_LIM).
const (
	maxArgument  = 32*4096 - 1
	maxArguments = 6 << 20
)

// minVariable is the shortest variable's size: "A=", its NUL, its pointer.
const minVariable = 3 + 8

// defaultPath is the PATH of a container whose image and request set none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (b *builder) process() error {
	args, err := arguments(b.Container, b.Image.Config.Entrypoint, b.Image.Config.Cmd)
	if err != nil {
		return err
	}
	env, err := b.environment()
	if err != nil {
		return err
	}
	if err := checkExecveSize(args, env); err != nil {
		return err
	}
	cwd, err := workingDir(b.Container.GetWorkingDir(), b.Image.Config.WorkingDir)
	if err != nil {
		return err
	}
	limits, err := b.rlimits()
	if err != nil {
		return err
	}
	b.spec.Process = &specs.Process{
		Terminal:        b.Container.GetTty(),
		User:            specs.User{UID: b.User.UID, GID: b.User.GID, Umask: b.Defaults.Umask, AdditionalGids: slices.Clone(b.User.Groups)},
		Args:            args,
		Env:             env,
		Cwd:             cwd,
		Rlimits:         limits,
		NoNewPrivileges: b.security.GetNoNewPrivs(),
	}
	return nil
}

// Process describes a command to be executed in a running container: with the
// identity, limits, environment and confinement of its PID 1, whose process is
// base, and with a terminal of its own if tty.
func Process(base *specs.Process, cmd []string, tty bool) (*specs.Process, error) {
	if len(cmd) == 0 || cmd[0] == "" {
		return nil, invalid("cmd: no command to execute")
	}
	p := *base
	p.Args = slices.Clone(cmd)
	p.Terminal = tty
	p.ConsoleSize = nil
	p.Env = slices.Clone(base.Env)
	if tty && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if i := slices.IndexFunc(cmd, hasNUL); i >= 0 {
		return nil, invalid("cmd[%d]: contains a NUL byte", i)
	}
	return &p, checkExecveSize(p.Args, p.Env)
}

// arguments merges the request's command and args with the image's entrypoint and
// cmd as Docker does: a command of the request makes the image's cmd void.
func arguments(c *runtime.ContainerConfig, entrypoint, cmd []string) ([]string, error) {
	command, args := c.GetCommand(), c.GetArgs()
	if len(command) == 0 {
		command = entrypoint
		if len(args) == 0 {
			args = cmd
		}
	}
	all := slices.Concat(command, args)
	if len(all) == 0 {
		return nil, invalid("command: neither the request nor the image %.200q names a command", c.GetImage().GetUserSpecifiedImage())
	}
	if all[0] == "" {
		return nil, invalid("command: the first word is empty")
	}
	if i := slices.IndexFunc(all, hasNUL); i >= 0 {
		return nil, invalid("command: word %d contains a NUL byte", i)
	}
	return all, nil
}

// environment merges, later ones winning: PATH, TERM, HOSTNAME, the administrator's,
// the image's, the request's. A variable keeps the place of its first setting.
func (b *builder) environment() ([]string, error) {
	var env variables
	env.add(defaultPath)
	if b.Container.GetTty() {
		env.add("TERM=xterm")
	}
	if h := b.hostname(); h != "" {
		env.add("HOSTNAME=" + h)
	}
	for _, v := range b.Defaults.Env {
		if !env.add(v) {
			return nil, invalid("default env: %.200q is not NAME=value", v)
		}
	}
	if len(b.Image.Config.Env) > maxArguments/minVariable {
		return nil, invalid("image env: %d variables are more than execve takes", len(b.Image.Config.Env))
	}
	for _, v := range b.Image.Config.Env {
		env.add(v) // An image's malformed ones have no meaning to anybody and are left out.
	}
	for i, kv := range b.Container.GetEnvs() {
		if key := kv.GetKey(); key == "" || strings.ContainsAny(key, "=\x00") {
			return nil, invalid("envs[%d].key: %.200q is not a variable's name", i, key)
		}
		if !utf8.Valid(kv.GetValue()) {
			// A specification is JSON, and so is what libcontainer tells its init: both
			// would silently become U+FFFD (docs/decisions/0030-env-bytes.md).
			return nil, invalid("envs[%d].value: the value of %.200s is not UTF-8, and an OCI specification cannot carry other bytes", i, kv.GetKey())
		}
		if !env.add(kv.GetKey() + "=" + string(kv.GetValue())) {
			return nil, invalid("envs[%d].value: the value of %.200s contains a NUL byte", i, kv.GetKey())
		}
	}
	return env.list, nil
}

// variables is an environment in order, each name once.
type variables struct {
	list  []string
	index map[string]int
}

// add sets NAME=value; false means that v is not of that form.
func (e *variables) add(v string) bool {
	name, _, ok := strings.Cut(v, "=")
	if !ok || name == "" || hasNUL(v) {
		return false
	}
	if e.index == nil {
		e.index = map[string]int{}
	}
	if i, ok := e.index[name]; ok {
		e.list[i] = v
		return true
	}
	e.index[name] = len(e.list)
	e.list = append(e.list, v)
	return true
}

func checkExecveSize(args, env []string) error {
	total := 0
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			if len(s) > maxArgument {
				name, _, _ := strings.Cut(s[:64], "=")
				return invalid("args and env: %.64q… has %d bytes, more than the %d of execve", name, len(s), maxArgument)
			}
			total += len(s) + 1 + 8 // the string, its NUL, its pointer
		}
	}
	if total > maxArguments {
		return invalid("args and env: %d bytes, more than the %d of execve", total, maxArguments)
	}
	return nil
}

// workingDir chooses the request's directory, then the image's, then /. A relative
// one is below /.
func workingDir(request, image string) (string, error) {
	dir, field := request, "working_dir"
	if dir == "" {
		dir, field = image, "image working_dir"
	}
	if hasNUL(dir) {
		return "", invalid("%s: contains a NUL byte", field)
	}
	dir = path.Join("/", dir)
	if throughDescriptor(dir) {
		return "", invalid("%s: %.200q leads through a file descriptor", field, dir)
	}
	return dir, nil
}

// throughDescriptor finds directories such as /proc/self/fd/7 or /proc/1/root: they
// would be resolved with descriptors of whoever sets the container up (CVE-2024-21626).
func throughDescriptor(dir string) bool {
	parts := strings.Split(strings.TrimPrefix(dir, "/"), "/")
	if parts[0] == "dev" && len(parts) > 1 {
		return slices.Contains([]string{"fd", "stdin", "stdout", "stderr"}, parts[1])
	}
	if parts[0] != "proc" || len(parts) < 3 {
		return false
	}
	if _, err := strconv.Atoi(parts[1]); err != nil && parts[1] != "self" && parts[1] != "thread-self" {
		return false
	}
	return slices.ContainsFunc(parts[2:], func(p string) bool {
		return p == "fd" || p == "cwd" || p == "root" || p == "exe" || p == "map_files"
	})
}

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }
