package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStoreHoldsWhatItHeldBeforeItWasClosed(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	s := openStore(t, c)
	pushed := w.push("kept/image:1", small("kept"))
	before, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "locked by another process") {
		t.Errorf("a second process got %v", err)
	}
	usage, _ := s.FsInfo(t.Context())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, c)
	after, err := s.Status(t.Context(), pushed.Ref)
	if err != nil || fmt.Sprint(after.RepoTags, after.RepoDigests, after.Size, after.Digest) != fmt.Sprint(before.RepoTags, before.RepoDigests, before.Size, before.Digest) {
		t.Errorf("before %+v\nafter %+v, %v", before, after, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	again, _ := s.FsInfo(t.Context())
	for ; again.Images != usage.Images && time.Now().Before(deadline); again, _ = s.FsInfo(t.Context()) {
		time.Sleep(time.Millisecond)
	}
	if again.Images != usage.Images || usage.Images.Bytes == 0 {
		t.Errorf("disk use was %+v and is %+v", usage.Images, again.Images)
	}
}

func TestPowerCutTakesOnlyTheLayersThatWereNotSynced(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	s := openStore(t, c)
	good, bad := w.push("cut/good:1", small("same")), small("same")
	bad.Layers = append(bad.Layers, bulky(1<<20).Layers...)
	worse := w.push("cut/bad:1", bad)
	goodImage, err := s.Pull(t.Context(), PullRequest{Ref: good.Ref})
	if err != nil {
		t.Fatal(err)
	}
	badImage, err := s.Pull(t.Context(), PullRequest{Ref: worse.Ref})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a cut leaves: the mark and the journal of an earlier boot.
	for name, text := range map[string]string{"vitrine.open": "another-boot", "unsynced/1": "another-boot\n" + badImage.layers[0] + "\n"} {
		if err := os.WriteFile(filepath.Join(c.Root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, c)
	images, err := s.List(t.Context())
	if err != nil || len(images) != 1 || images[0].ID != goodImage.ID {
		t.Fatalf("%d images are left, %v", len(images), err)
	}
	if layers, _ := s.storage.Layers(); len(layers) != 2 {
		t.Errorf("%d layers are left", len(layers))
	}
	fetched := len(w.proxy.Requests("cut/bad/blobs/"))
	if _, err := s.Pull(t.Context(), PullRequest{Ref: worse.Ref}); err != nil {
		t.Fatal(err)
	}
	if n := len(w.proxy.Requests("cut/bad/blobs/")) - fetched; n != 2 {
		t.Errorf("%d blobs were fetched again, want the configuration and one layer", n)
	}
}

func TestDamagedImageIsRemovedAfterAPowerCut(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	s := openStore(t, c)
	pushed := w.push("cut/image:1", small("damaged"))
	img, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, mark := range map[string]string{"mark of another boot": "another-boot", "mark that was lost in part": ""} {
		data, _ := filepath.Glob(filepath.Join(c.Root, "overlay-images", img.ID, "*"))
		for _, path := range data {
			os.Truncate(path, 0)
		}
		os.WriteFile(filepath.Join(c.Root, "vitrine.open"), []byte(mark), 0o600)
		s = openStore(t, c)
		if images, err := s.List(t.Context()); err != nil || len(images) != 0 {
			t.Errorf("%s: %d images, %v", name, len(images), err)
		}
		if records, err := s.storage.Images(); err != nil || len(records) != 0 {
			t.Errorf("%s: the store was not checked: %d records, %v", name, len(records), err)
		}
		if _, err := s.Pull(t.Context(), PullRequest{Ref: pushed.Ref}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHelperPuller is the victim of the test below: it pulls and removes until it is killed.
func TestHelperPuller(t *testing.T) {
	refs := os.Getenv("VITRINE_PULL")
	if refs == "" {
		t.Skip("plays a part in TestKilledStoreOpensWholeAgain")
	}
	s, err := Open(t.Context(), Config{Root: os.Getenv("VITRINE_ROOT"), RunRoot: os.Getenv("VITRINE_RUN"), RegistriesConf: os.Getenv("VITRINE_CONF")})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("\nOPEN")
	for i := 0; ; i++ {
		for _, ref := range strings.Fields(refs) {
			img, err := s.Pull(t.Context(), PullRequest{Ref: ref})
			if err != nil {
				t.Fatal(err)
			}
			id := fmt.Sprintf("c%d", i)
			if _, err := s.CreateRootfs(t.Context(), RootfsRequest{ID: id, ImageID: img.ID}); err != nil {
				t.Fatal(err)
			}
			if err := s.RemoveRootfs(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestKilledStoreOpensWholeAgain(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	var refs []string
	for i := range 3 {
		img := small(fmt.Sprint("killed", i))
		img.Layers = append(img.Layers, bulky(300<<10).Layers...)
		refs = append(refs, w.push(fmt.Sprintf("killed/image:%d", i), img).Ref)
	}
	for round := range 12 {
		victim := exec.Command("/proc/self/exe", "-test.run", "^TestHelperPuller$")
		victim.Env = append(os.Environ(), "VITRINE_PULL="+strings.Join(refs, " "), "VITRINE_ROOT="+c.Root, "VITRINE_RUN="+c.RunRoot, "VITRINE_CONF="+c.RegistriesConf)
		out, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "OPEN"; {
		}
		time.Sleep(time.Duration(17*round%150) * time.Millisecond)
		victim.Process.Kill()
		victim.Wait()

		began := time.Now()
		s, err := Open(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("round %d: open took %s", round, d)
		}
		if left, _ := os.ReadDir(c.Root + "/overlay/staging"); len(left) > 0 {
			t.Errorf("round %d: %d directories are left in staging", round, len(left))
		}
		ids, err := s.Rootfses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := s.RemoveRootfs(t.Context(), id); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		for _, ref := range refs {
			img, err := s.Pull(t.Context(), PullRequest{Ref: ref})
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			noise, err := os.ReadFile(s.layerDir(img.layers[0]) + "/diff/noise")
			if err != nil || !bytes.Equal(noise, bulky(300 << 10).Layers[0].Files[0].Body) {
				t.Errorf("round %d: content of a layer: %d bytes, %v", round, len(noise), err)
			}
			if err := s.Remove(t.Context(), ref); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if left, _ := os.ReadDir(c.Root + "/rootfs"); len(left) > 0 {
			t.Errorf("round %d: %d root file systems are left", round, len(left))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(c.Root + "/unsynced"); len(left) > 0 {
			t.Errorf("round %d: %d journals are left", round, len(left))
		}
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(mounts, []byte(c.Root)) {
		t.Error("mounts are left")
	}
}
