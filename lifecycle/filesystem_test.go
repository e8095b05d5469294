package lifecycle

import (
	"path/filepath"
	"testing"
	"time"
)

func TestFileSystemIsToldOrLeftOut(t *testing.T) {
	dir := t.TempDir()
	if fs := fileSystemAt(dir); fs == nil || fs.Device == "" || fs.Bytes == 0 || fs.FreeInodes > fs.Inodes {
		t.Errorf("%+v", fs)
	}
	if fs := fileSystemAt(filepath.Join(dir, "gone")); fs != nil {
		t.Errorf("what is not there has %+v", fs)
	}
}

func TestFileSystemIsReadOncePerList(t *testing.T) {
	var f fileSystem
	dir, now := t.TempDir(), time.Now()
	first := f.at(dir, now)
	if again := f.at(dir, now.Add(fileSystemFor/2)); first == nil || again != first {
		t.Errorf("%p, then %p", first, again)
	}
	if later := f.at(dir, now.Add(2*fileSystemFor)); later == nil || later == first {
		t.Errorf("%p is not read again after %v", later, 2*fileSystemFor)
	}
}
