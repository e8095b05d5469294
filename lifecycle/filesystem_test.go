package lifecycle

import (
	"path/filepath"
	"testing"
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
