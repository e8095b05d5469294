package why

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// areas say where a step lies, by the beginning of its name; the first that fits
// decides. A step that fits none lies where its own first word says.
var areas = []struct{ prefix, area, words string }{
	{"image.rootfs", "rootfs", "mounting the root file system"},
	{"image.layer.apply", "unpack", "unpacking a layer to disk"},
	{"image.layer.commit", "unpack", "committing a layer to disk"},
	{"image.record", "unpack", "recording the image on disk"},
	{"image.sync", "unpack", "syncing the image to disk"},
	{"image.queue", "queue", "waiting for a place among the pulls"},
	{"image.layer", "image", "downloading a layer"},
	{"image.manifest", "image", "fetching the manifest"},
	{"image.auth", "image", "asking for a token"},
	{"image.", "image", "pulling the image"},
	{"network.cni", "network", "the CNI plugin"},
	{"network.", "network", "connecting the pod to its network"},
	{"oci.hook", "hook", "an OCI hook"},
	{"libct.", "process", "setting up the container"},
	{"birth.", "process", "setting up the container"},
	{"monitor.start", "process", "executing the program"},
	{"lifecycle.execute", "process", "executing the program"},
	{"lifecycle.start_container", "process", "starting the container"},
	{"monitor.", "monitor", "the container's monitor"},
	{"lifecycle.reopen_log", "log", "opening the log anew"},
	{"lifecycle.stop", "stop", "waiting for the container to end"},
	{"lifecycle.volumes", "volume", "mounting an image volume"},
	{"lifecycle.resolve", "config", "resolving the request"},
	{"lifecycle.spec", "config", "describing the container"},
	{"lifecycle.ports", "network", "claiming the pod's host ports"},
	{"lifecycle.lock", "lock", "waiting for another operation on the same pod"},
	{"lifecycle.cgroup", "cgroup", "making the cgroup"},
	{"cri.admit", "config", "validating the request"},
}

// callAreas are for calls that fail or take time outside their steps.
var callAreas = map[string]string{"PullImage": "image", "RunPodSandbox": "sandbox", "CreateContainer": "container", "StartContainer": "process", "StopContainer": "stop"}

// area returns where a step lies and what it does, in words.
func area(step string) (name, words string) {
	if _, method, call := strings.Cut(step, "/"); call {
		return cmp.Or(callAreas[method], "call"), "the call itself"
	}
	for _, a := range areas {
		if strings.HasPrefix(step, a.prefix) {
			return a.area, a.words
		}
	}
	name, _, _ = strings.Cut(step, ".")
	return name, step
}

// things move a failure to where its message says that it lies: a mount that cannot be
// made fails in the launcher, but lies in the request.
var things = []struct {
	area    string
	pattern *regexp.Regexp
}{
	{"volume", regexp.MustCompile(`(?i)image volume|ImageVolumeMountFailed`)},
	{"mount", regexp.MustCompile(`(?i)\bmount(s|ing|ed)?\b|container_path`)},
	{"cgroup", regexp.MustCompile(`(?i)\bcgroups?\b`)},
	{"userns", regexp.MustCompile(`(?i)\buserns|user namespace|\bid ?map`)},
	{"user", regexp.MustCompile(`(?i)\b(user|group|uid|gid|passwd)\b`)},
	{"seccomp", regexp.MustCompile(`(?i)seccomp`)},
	{"apparmor", regexp.MustCompile(`(?i)apparmor`)},
	{"selinux", regexp.MustCompile(`(?i)selinux`)},
	{"sysctl", regexp.MustCompile(`(?i)sysctl`)},
	{"device", regexp.MustCompile(`(?i)\bdevices?\b`)},
	{"hook", regexp.MustCompile(`(?i)\bhook\b`)},
	{"capability", regexp.MustCompile(`(?i)capabilit`)},
	{"handler", regexp.MustCompile(`(?i)runtime handler`)},
	{"workdir", regexp.MustCompile(`(?i)working directory`)},
	{"memory", regexp.MustCompile(`(?i)memory limit|want of memory|OOM-killed`)},
	{"image", regexp.MustCompile(`(?i)\bimage\b`)},
	{"log", regexp.MustCompile(`(?i)\blog path\b|log_path|monitor\.log|\.log: `)},
}

// opensLog is an error of opening a container's log; what is opened is a name, and no word.
var opensLog = regexp.MustCompile(`(^|: )open \S+\.log: `)

// names are what a message is about: quoted texts and paths say nothing of where it lies.
var names = regexp.MustCompile(`"[^"]*"|(^|\s)/\S+`)

// classes are what errors say in the kernel's, Go's and registries' words; the first
// that fits decides.
var classes = []struct {
	class   string
	pattern *regexp.Regexp
	words   string
}{
	{"exhausted", regexp.MustCompile(`(?i)(clone|unshare|namespaces?\b).*no space left on device`), "the node allows no more namespaces"},
	{"watches", regexp.MustCompile(`(?i)inotify|fsnotify|file watch(er|es)|too many watches|upper limit on .*watches`), "no more files may be watched"},
	{"redirect", regexp.MustCompile(`(?i)stopped after \d+ redirects|too many redirects|redirected you too many times`), "it is redirected in a circle"},
	{"proxy", regexp.MustCompile(`(?i)proxyconnect|proxy authentication required|\bsocks connect\b`), "the proxy on the way does not serve it"},
	{"platform", regexp.MustCompile(`(?i)no image of the index is for this machine|no matching manifest for|no image found in (manifest list|image index)`), "it is not there for this machine's architecture"},
	{"malformed", regexp.MustCompile(`(?i)unexpected end of JSON input|no FSLayers in manifest`), "what came is not in the form that it should have"},
	{"page", regexp.MustCompile(`(?i)text/html|<!doctype html|<html\b|invalid character '<' looking for`), "a web page answers where something else should"},
	{"clock", regexp.MustCompile(`(?i)not yet valid: current time \S+ is before|token is not (yet )?valid|not valid (yet|before)\b|token used before|issued in the future|clock skew|'s clock is \S+ (behind|ahead of) `), "two clocks do not agree"},
	{"disk", regexp.MustCompile(`(?i)no space left on device|disk quota exceeded|input/output error`), "the disk is full or broken"},
	{"filesize", regexp.MustCompile(`(?i)file too large|file size limit exceeded`), "a file would become larger than it may"},
	{"memory", regexp.MustCompile(`(?i)OutOfMemoryError|out of memory|\bbad_alloc\b|\bMemoryError\b|cannot allocate memory|JavaScript heap`), "it found no more memory for itself"},
	{"suid", regexp.MustCompile(`(?i)must be suid|no new privileges. flag|effective uid is not 0|setuid root`), "it wants more privileges than its user may gain"},
	{"credentials", regexp.MustCompile(`(?i)(authentication|login|auth) failed|access denied for user|(invalid|wrong|incorrect|bad) (user ?name|password|credentials|api key)|password authentication|\b401 unauthorized|NOAUTH|WRONGPASS`), "whoever it asked wants other credentials"},
	{"noaddress", regexp.MustCompile(`(?i)cannot assign requested address|EADDRNOTAVAIL`), "an address is none of this network's own"},
	{"format", regexp.MustCompile(`(?i)exec format error`), "the program is for another architecture, or a script without its first line"},
	{"library", regexp.MustCompile(`(?i)error while loading shared libraries|error loading shared library|cannot open shared object file`), "a shared library is missing from the image"},
	{"interpreter", regexp.MustCompile(`\(its interpreter .* is missing\)`), "the loader or interpreter that it names is not there"},
	{"panic", regexp.MustCompile(`^panic: |^fatal error: |^Traceback \(most recent call last\)|^Exception in thread |Unhandled exception|Uncaught |Assertion .* failed|terminate called after throwing|thread '.*' panicked`), "the program gave up with a fault of its own"},
	{"readonly", regexp.MustCompile(`(?i)read-only file system`), "the file system is read-only"},
	{"digest", regexp.MustCompile(`(?i)digest|checksum`), "what came is not what was promised"},
	{"tls", regexp.MustCompile(`(?i)x509|\btls: |certificate`), "the TLS connection is refused"},
	{"dns", regexp.MustCompile(`(?i)no such host|server misbehaving|lookup .*: |bad address '|name or service not known|name resolution|could not resolve host|getaddrinfo`), "a name cannot be resolved"},
	{"address", regexp.MustCompile(`(?i)address already in use|port is already allocated`), "an address is in use already"},
	{"files", regexp.MustCompile(`(?i)too many open files|no file descriptors available`), "no more files may be open"},
	{"exhausted", regexp.MustCompile(`(?i)no IP addresses available|range.*(full|exhausted)|resource temporarily unavailable|resource exhausted`), "something has run out"},
	{"tcp", regexp.MustCompile(`(?i)connection refused|connection reset|no route to host|network is unreachable|broken pipe|unexpected EOF`), "the connection fails"},
	{"timeout", regexp.MustCompile(`(?i)timed out|deadline exceeded|killed after|i/o timeout|timeout`), "it takes longer than it may"},
	{"unsupported", regexp.MustCompile(`(?i)not served by this version|function not implemented|not supported|\bunsupported\b|not enabled on this host`), "this build or kernel cannot do it"},
	{"missing", regexp.MustCompile(`(?i)no such file or directory|not found|is in none of|does not exist|unknown|no such|no matching entries|unable to find|is not there|is not declared|cannot open`), "it is not there"},
	{"denied", regexp.MustCompile(`(?i)permission denied|operation not permitted|denied|forbidden|unauthorized|not allowed|access control`), "it is not permitted"},
	{"busy", regexp.MustCompile(`(?i)device or resource busy|already exists|text file busy`), "it is in use or exists already"},
	{"invalid", regexp.MustCompile(`(?i)invalid|numerical result out of range|is a directory|not a directory|malformed|must `), "the request is wrong"},
}

// known are the classes that pulls set on their spans (error.type), in words.
var known = map[string]string{
	"dns": "the registry's name cannot be resolved", "tcp": "the registry cannot be reached", "tls": "the TLS connection is refused",
	"auth": "the registry wants other credentials", "denied": "the registry forbids it", "notfound": "the registry does not have it",
	"ratelimit": "the registry limits the rate of pulls", "server": "the registry has a fault of its own", "timeout": "it takes longer than it may",
	"stall": "the registry stopped sending", "digest": "what came is not what was promised", "signature": "the signature policy refuses it",
	"disk": "the disk is full or broken", "limit": "a bound was hit", "cancel": "the caller gave up",
}

// shared are the classes that any room's step may carry: those of the sentinel errors.
var shared = map[string]bool{"cancel": true, "timeout": true, "notfound": true, "exists": true, "invalid": true, "state": true,
	"unsupported": true, "unavailable": true, "exhausted": true, "denied": true}

// classify names a failure: where it lies, what it is, and that in words. class is the
// step's own word for it; empty if it has none.
func classify(step, class, text string) (name, words string) {
	where, _ := area(step)
	pulling := where == "image" || where == "unpack"
	if quotes := slices.Contains([]string{"image", "unpack", "rootfs", "network", "volume"}, where) && !strings.HasPrefix(step, "network.namespaces"); !quotes { // of other people's words
		own := names.ReplaceAllString(text, "")
		for _, t := range things {
			if t.pattern.MatchString(own) {
				where = t.area
				break
			}
		}
	}
	if opensLog.MatchString(text) && !pulling {
		where = "log"
	}
	if said, ok := known[class]; ok && pulling && !precise(text) { // elsewhere the same word is not a registry's
		return where + "." + class, said
	}
	for _, c := range classes {
		if c.pattern.MatchString(text) {
			return where + "." + c.class, c.words
		}
	}
	return where + "." + cmp.Or(class, "failed"), "it fails"
}

// precise: the message says more than a room's word for it.
func precise(text string) bool {
	for _, c := range classes {
		switch c.class {
		case "redirect", "page", "clock", "proxy", "platform", "malformed":
			if c.pattern.MatchString(text) {
				return true
			}
		}
	}
	return false
}

// advice is the next step, by cause or by its second part; the first that fits.
var advice = []struct{ cause, next string }{
	{"image.auth", "check the pull secret: kubectl get pod -o jsonpath={.spec.imagePullSecrets}, that it is for this registry, and that it has not expired"},
	{"image.clock", "compare the node's clock with the registry's: date, chronyc tracking, curl -I"},
	{"image.proxy", "check the proxy that the daemon's environment names (HTTPS_PROXY, HTTP_PROXY, NO_PROXY): that it listens, and lets the registry through"},
	{"image.platform", "build the image for this architecture too, or keep the pod to nodes that it is built for (nodeSelector kubernetes.io/arch)"},
	{"image.malformed", "look at what the registry has under this name: skopeo inspect --raw docker://IMAGE; push the image anew"},
	{"image.unsupported", "it is no image that can be run, but something else that a registry stores (a chart, a signature, a module): check the name"},
	{"image.invalid", "check the image's name: REGISTRY/PATH:TAG or @DIGEST, the path in lower case"},
	{"image.page", "look at what answers: curl -i https://REGISTRY/v2/; a proxy, a portal for signing in or a wrong port stands in the registry's place"},
	{"image.redirect", "look at where the registry, or the proxy before it, sends the request: curl -iL https://REGISTRY/v2/"},
	{"image.denied", "check that the credentials may read this repository"},
	{"image.ratelimit", "wait, authenticate the pulls, or put a mirror into registries.conf"},
	{"image.notfound", "check the image's name and tag; the registry has no such manifest or layer"},
	{"image.missing", "check the image's name and tag, and that it was pulled"},
	{"image.digest", "pull from another mirror; what this one sends is damaged or was tampered with"},
	{"image.dns", "check the registry's name and the node's resolver: getent hosts REGISTRY"},
	{"image.tcp", "check that the registry listens and that the node's firewall lets it through"},
	{"image.tls", "check the registry's certificate and the certs.d directory; plain HTTP needs insecure = true in registries.conf"},
	{"image.stall", "check the registry and the path to it; a mirror nearer by helps"},
	{"image.slow", "look at the throughput in vitrine trace --events and at vitrine pulls; a mirror nearer by or a smaller image helps"},
	{"image.server", "look at the registry's own log; the runtime tries again by itself"},
	{"image.signature", "check policy.json and who signed the image"},
	{"network.slow", "time the named plugin by hand and look at what it waits for: its IPAM, its API server, iptables"},
	{"network.hanging", "look at what the named plugin waits for; it is killed when its time is up"},
	{"network.missing", "install the named plugin into a directory of network.bin_dirs, or take it out of the conflist"},
	{"network.address", "two pods of this node want the same hostPort: stop the named pod, or give one another port or a Service"},
	{"network.exhausted", "the address range is used up: look for leaked leases and enlarge the subnet"},
	{"network.", "read the plugin's own words above; vitrine check shows what this host lacks"},
	{"hook.", "run the named hook by hand with the container's state on standard input; it delays or stops every container it matches"},
	{"process.interpreter", "a script's first line must name a program of the image and not end as on Windows (CRLF); a binary needs its dynamic loader in the image"},
	{"process.invalid", "check command and args: the first word must name a program of the image, not a directory"},
	{"process.malformed", "look at what it read, a file or an answer: it is cut off, empty or something else"},
	{"process.filesize", "look for the limit of file sizes (ulimit -f), and for the bound of the file system that is written to"},
	{"process.memory", "it met a limit of its own or of the address space, not the container's: its heap's size (-Xmx, --max-old-space-size), ulimit -v, the node's overcommit"},
	{"process.cputime", "look for a limit of processor time (ulimit -t) in the entrypoint; the kernel's log has the rest: dmesg"},
	{"process.suid", "let it run as the user that it needs from the beginning (runAsUser), or set allowPrivilegeEscalation to true"},
	{"process.credentials", "check the secret that the program takes its credentials from, and that whoever it asks knows them"},
	{"process.noaddress", "let it listen on 0.0.0.0 or on the pod's own address (status.podIP); an address of the node or of a Service is none of the pod's"},
	{"process.clock", "compare the node's clock with the other side's: date, chronyc tracking; a container has the node's clock"},
	{"process.tls", "check the certificates: those that the image trusts (ca-certificates), and the name and dates of the other side's"},
	{"process.timeout", "look at whom it waited for: whether that answers from within the pod, and how fast"},
	{"process.exhausted", "see which of its bounds was met: ulimit -a and the pod's limits, in the words above"},
	{"process.unsupported", "this node's kernel, or the sandbox around the program, does not have what it asks for: compare with a node where it runs"},
	{"process.busy", "somebody else has it: another process of the pod, or the attempt before this one"},
	{"process.watches", "raise fs.inotify.max_user_watches and max_user_instances on the node (in a user namespace user.max_inotify_watches), or watch fewer files"},
	{"process.files", "raise the limit of open files (ulimit -n), or look for files and connections that are never closed"},
	{"process.panic", "it is a fault of the program: read the words around this one with vitrine logs"},
	{"process.dns", "check the name, and the pod's resolver: its /etc/resolv.conf, dnsPolicy, and the cluster's DNS service"},
	{"process.tcp", "check that what the program connects to is running, listens, and may be reached from the pod"},
	{"process.zombies", "let PID 1 wait for its children, or put an init such as tini before it; each of them holds a pid"},
	{"sysctl.", "only kernel settings of the pod's own namespaces can be set; the others are the node's"},
	{"device.denied", "ask for the device: a device plugin's resource in the container's limits, or CDI; to be in the file system is not enough"},
	{"device.", "check that the device exists on this node, and which device plugin or pod asks for it"},
	{"handler.", "check the RuntimeClass: its handler must be one of runtime.handlers on this node"},
	{"exit.signal", "find who sent the signal: the program handled it and ended; its own log says what it was doing"},
	{"process.missing", "check command and args against the image; if the file is there, its interpreter or loader is not"},
	{"process.format", "check the image's architecture (uname -m) and that a script begins with #!"},
	{"process.library", "rebuild the image with the named library, or on the base it was linked against"},
	{"process.address", "two programs of the pod, or of the node where hostNetwork is on, want the same port: change one"},
	{"process.readonly", "mount an emptyDir where the program writes, or set readOnlyRootFilesystem to false"},
	{"process.disk", "free space: the node's disk, or the size limit of the volume that is written to"},
	{"seccomp.missing", "put the profile below the kubelet's seccomp directory on this node, and check what is wrong with it"},
	{"seccomp.invalid", "the profile must be JSON in the form of the OCI runtime specification (linux.seccomp), with names of system calls and actions that this node knows"},
	{"capability.invalid", "securityContext.capabilities has the names of capabilities(7), without CAP_"},
	{"unpack.limit", "the image is larger than this node's bounds on images allow, or made to be; the bounds are in vitrine config"},
	{"unpack.digest", "the image was built or stored wrong, or is damaged on its way: pull it elsewhere to tell the two apart, then build it anew"},
	{"exit.restarted", "a program that is done needs a Job, or restartPolicy OnFailure or Never; if it should go on, see why its command returns: kubectl logs"},
	{"apparmor.unsupported", "this node's kernel runs without AppArmor: take the profile out of the pod's securityContext, or keep the pod to nodes that have it"},
	{"apparmor.denied", "the kernel's audit log names the rule (dmesg, apparmor=\"DENIED\"): allow it in the profile, or use another profile"},
	{"apparmor.", "load the profile on this node (apparmor_parser), or take it out of the pod's securityContext; aa-status lists those that are loaded"},
	{"cgroup.", "check the pod's resources against the node: its CPUs, NUMA nodes and huge pages, and the limits of the cgroup above"},
	{"userns.", "check the ranges in /etc/subuid and of the kubelet, and user.max_user_namespaces on the node"},
	{"memory.invalid", "raise the memory limit: less than this no process can be started in"},
	{"image.limit", "the image is larger than this node's bounds on images allow; they are in vitrine config"},
	{"process.denied", "check the file's mode and the user that the container runs as"},
	{"user.", "check runAsUser, runAsGroup and the image's USER against its /etc/passwd"},
	{"mount.", "check the volume: the named path must exist on the node and in the form that is asked for"},
	{"volume.", "pull the volume's image first, and check its reference and sub-path"},
	{"unpack.disk", "free space on the image store's file system (df), or move root to a larger one"},
	{"rootfs.missing", "the image store is damaged: remove the image and pull it again"},
	{"workdir.", "check workingDir, or the image's WORKDIR: it must be a directory, or not be there"},
	{"rootfs.disk", "free space on the image store's file system (df), or move root to a larger one"},
	{"unpack.slow", "look at the disk under the image store: iostat, its quota, what else writes"},
	{"rootfs.slow", "look at the disk under the image store: iostat, its quota, what else writes"},
	{"queue.", "too many pulls at once: look at vitrine pulls and at image.max_pulls"},
	{"oom.killed", "raise the named limit or find what uses the memory; the figures above say how much was in use"},
	{"oom.child", "a worker was killed, not PID 1: raise the limit or lower the number of workers"},
	{"killed.outside", "find who sent the signal: an operator, a node agent, a script; the runtime and the kernel's OOM killer did not"},
	{"seccomp.denied", "find the system call in the audit log and allow it in the pod's seccomp profile"},
	{"killed.kernel", "the kernel's log says more: dmesg; a limit of processor time (ulimit -t) ends programs so, and the end of a shared pid namespace"},
	{"stop.hook", "make the preStop hook end sooner, or raise terminationGracePeriodSeconds, which it shares with the program"},
	{"stop.restarted", "kubectl describe pod names the probe that failed (livenessProbe, startupProbe); the program's log says what it did meanwhile"},
	{"runtime.", "run the handler's program by hand, or look into its own log; runtime.handlers of this node says which it is"},
	{"monitor.stopped", "somebody stopped it: kill -CONT the container's vitrine-monitor; until then nobody reads the output, stops the container or sees its end"},
	{"crash.signal", "it is a bug of the program: get a core dump or the last words of its log"},
	{"stop.killed", "let the program handle its stop signal, or raise terminationGracePeriodSeconds"},
	{"stop.", "let the program handle its stop signal, or lower terminationGracePeriodSeconds"},
	{"exit.code", "read the program's last words: kubectl logs"},
	{"cpu.throttled", "raise the CPU limit or take it away; requests alone do not throttle"},
	{"cpu.pressure", "the node's CPUs are contended: kubectl top node, and the pods' requests"},
	{"memory.pressure", "the container is close to its limit and reclaims all the time: raise the limit"},
	{"io.pressure", "the disk is contended: /metrics/containers shows who writes"},
	{"pids.limit", "raise the pid limit or find what forks: the container is at its limit of tasks"},
	{"probe.timeout", "raise the probe's timeoutSeconds, or make what it runs cheaper"},
	{"probe.failed", "run the probe's command by hand: kubectl exec"},
	{"probe.slow", "make what the probe runs cheaper, or use an httpGet or grpc probe instead of exec"},
	{"log.missing", "let whatever cleans the node leave /var/log/pods alone; kubectl logs works again after the next rotation, or a restart of the container"},

	{"log.lost", "free the disk that the log lies on, or make it faster; the count above is what is missing"},
	{"log.flood", "lower the program's log level; kubelet rotates at containerLogMaxSize"},
	{"log.blocked", "look at why the log's reader does not read: the state of the monitor, a stopped process, the disk"},
	{"process.stopped", "somebody sent SIGSTOP: kill -CONT, or look for a debugger"},
	{"process.frozen", "somebody froze it: docker pause, runc pause, a checkpoint or a node agent; write 0 to cgroup.freeze, or THAWED to freezer.state"},
	{"process.stuck", "a kernel call does not return: look at the named function, at NFS and at the disk"},
	{"daemon.restarted", "find out why the daemon was killed: its log and the kernel's; kubelet tries again by itself"},
	{"node.rebooted", "find out why the node went down; kubelet starts the pod's containers anew"},
	{"monitor.lost", "find out who killed the monitor; the container's exit status could not be had"},
	{"log.", "look at the log's directory: its mode, its owner, its disk, what stands in the log's place; until it can be opened anew, the log grows without bound"},
	{"lock.", "look at vitrine status for the operation that holds the pod"},
}

func next(cause string) string {
	for _, a := range advice {
		if a.cause == cause || strings.HasSuffix(a.cause, ".") && strings.HasPrefix(cause, a.cause) {
			return a.next
		}
	}
	return "read the evidence; vitrine trace draws the call with every step"
}
