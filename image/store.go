package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
	storagetypes "go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Reexec must be the first call of main in every program that opens a Store: the
// storage library runs parts of its work in copies of the program itself. When it
// returns true, the program was such a copy and must return at once.
func Reexec() bool { return reexec.Init() }

// Store is the room's door. It is safe for concurrent use.
type Store struct {
	config  Config
	storage storage.Store
	lock    *os.File // flock'ed for as long as the store is open
	catalog catalog
	flights flights
	layers  layerFlights
	usage   usageBook
	rootfs  rootfsTable

	unsettled  unsettled
	registries registriesConf

	ctx   context.Context // ends with Close; pulls and background work live under it
	stop  context.CancelFunc
	tasks sync.WaitGroup

	closing sync.Once
	closed  error // valid after closing
}

// Open opens the store, or makes it. One process holds a store at a time: a second
// one gets pod.ErrUnavailable. After an unclean end it repairs what a power cut may
// have damaged before it answers.
func Open(ctx context.Context, config Config) (_ *Store, err error) {
	ctx, span := telemetry.Start(ctx, "image.open")
	defer span.End(&err)
	config, err = config.complete()
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &Store{config: config}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		// The first two are on the way to the root file systems of containers with
		// mapped users. What lies beside those is closed one by one.
		{config.Root, 0o711}, {s.rootfsDir(), 0o711}, {filepath.Join(config.Root, "overlay"), 0o700}, {config.RunRoot, 0o700},
	} {
		if err := errors.Join(os.MkdirAll(d.path, d.mode), os.Chmod(d.path, d.mode)); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if s.lock, err = lockDir(filepath.Join(config.Root, "vitrine.lock")); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if s.storage, err = storage.GetStore(storagetypes.StoreOptions{
		RunRoot:            config.RunRoot,
		GraphRoot:          config.Root,
		GraphDriverName:    "overlay",
		GraphDriverOptions: append([]string{"overlay.skip_mount_home=true"}, config.StorageOptions...),
		PullOptions:        map[string]string{"enable_partial_images": strconv.FormatBool(config.PartialPulls)},
	}); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", config.Root, err)
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open image store %s: %w", config.Root, err), s.release())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if _, err := s.policy(""); err != nil {
		return err
	}
	if err := s.repair(ctx); err != nil {
		return err
	}
	if err := s.rootfs.load(s); err != nil {
		return err
	}
	if err := s.catalog.refresh(s); err != nil {
		return err
	}
	s.background(func(ctx context.Context) {
		// Both are tidying: what fails here is tried again at the next removal.
		s.dropOrphans()
		s.settleUsage(ctx)
	})
	return nil
}

// background runs f under the store's context; Close waits for it.
func (s *Store) background(f func(context.Context)) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		f(s.ctx)
	}()
}

// Close ends running pulls, waits for them and for background work, and gives the
// store free. Mounted root file systems stay mounted: containers use them. A second
// Close returns what the first did.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = errors.Join(s.release(), os.Remove(s.openMark())) })
	return s.closed
}

func (s *Store) release() error {
	s.flights.mu.Lock() // no pull begins between the stop and the wait
	s.stop()
	s.flights.mu.Unlock()
	s.tasks.Wait()
	s.storage.Free()
	return errors.Join(s.rootfs.close(s), s.lock.Close())
}

// system is the context of containers/image for one pull.
func (s *Store) system() *types.SystemContext {
	c := s.config
	sys := &types.SystemContext{
		SystemRegistriesConfPath:    c.RegistriesConf,
		SystemRegistriesConfDirPath: c.RegistriesConf + ".d",
		UserShortNameAliasConfPath:  filepath.Join(c.Root, "short-name-aliases.conf"),
		AuthFilePath:                c.AuthFile,
		DockerPerHostCertDirPath:    c.CertsDir,
		DockerRegistryUserAgent:     "vitrine",
		BigFilesTemporaryDir:        filepath.Join(c.Root, "tmp"),
	}
	if _, err := os.Stat(c.RegistriesConf); errors.Is(err, fs.ErrNotExist) {
		sys.SystemRegistriesConfPath = os.DevNull // the library wants a file; its drop-ins count all the same
	}
	if sys.AuthFilePath == "" {
		sys.AuthFilePath = filepath.Join(c.Root, "no-auth.json") // never written: no credentials of a user leak in
	}
	return sys
}

// lockWait bounds lockDir.
const lockWait = time.Second

// lockDir takes the lock of a store. It waits a little: when the process that had
// it was killed, a child that it had just forked holds it until it executes its program.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("%w: %s is locked by another process: %w", pod.ErrUnavailable, path, err)
		}
	}
}
