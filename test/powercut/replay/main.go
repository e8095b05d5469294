// Command replay makes disks as a power cut leaves them from the log of a disk's writes.
//
//	replay -base FILE -log FILE -out DIR -cuts N [-seed N]
//
// FILE of -base is the disk before the first write. DIR gets the disks cut0, cut1, …:
// the log is divided into as many parts, and each disk is cut in one of them, by turns
// two right after a promise, and two where most writes are not flushed.
package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/vitrine-runtime/vitrine/test/powercut"
)

func main() {
	base := flag.String("base", "", "the disk before the first write")
	log := flag.String("log", "", "the log of writes")
	out := flag.String("out", "", "directory for the disks")
	cuts := flag.Int("cuts", 4, "how many disks")
	seed := flag.Uint64("seed", rand.Uint64(), "of what is chosen by chance")
	flag.Parse()
	if err := replay(*base, *log, *out, *cuts, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

func replay(base, logPath, out string, cuts int, seed uint64) error {
	info, err := os.Stat(base)
	if err != nil {
		return err
	}
	f, err := os.Open(logPath)
	if err != nil {
		return err
	}
	defer f.Close()
	log, err := powercut.ReadLog(f, info.Size())
	if err != nil {
		return err
	}
	marks := uint64(info.Size()-powercut.MarksSize) / powercut.SectorSize
	var promises []int // entries
	for i, w := range log.Writes {
		if w.Sectors > 0 && w.Sector >= marks {
			promises = append(promises, i)
		}
	}
	if len(promises) == 0 {
		return fmt.Errorf("%s has %d entries and no mark", logPath, len(log.Writes))
	}
	fmt.Printf("replay: %d writes, %d marks, seed %d\n", len(log.Writes), len(promises), seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	// Before the first mark the test was still furnishing.
	first, end := promises[0]+1, len(log.Writes)
	for i := range cuts {
		from, to := first+(end-first)*i/cuts, first+(end-first)*(i+1)/cuts
		n := log.MostUnflushed(from, to)
		if i/2%2 == 0 {
			n = promiseIn(promises, from, to, n, chance)
		}
		disk := filepath.Join(out, "cut"+strconv.Itoa(i))
		lost, err := cut(log, base, disk, n, marks, chance)
		if err != nil {
			return err
		}
		fmt.Printf("replay: %s: cut after %d writes; %d of them, which were not flushed, are lost or torn\n", filepath.Base(disk), n, lost)
	}
	return nil
}

// promiseIn is the place right after a mark in the part, or other if it has none.
func promiseIn(promises []int, from, to, other int, chance *rand.Rand) int {
	var in []int
	for _, p := range promises {
		if p+1 >= from && p+1 <= to {
			in = append(in, p+1)
		}
	}
	if len(in) == 0 {
		return other
	}
	return in[chance.IntN(len(in))]
}

func cut(log *powercut.Log, base, disk string, n int, marks uint64, chance *rand.Rand) (lost int, err error) {
	if out, err := exec.Command("cp", "--sparse=always", base, disk).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("copy %s: %w: %s", base, err, out)
	}
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lost, err = log.Cut(io.WriterAt(f), n, marks, chance)
	return lost, err
}
