// Command supervisor owns the processes of one cluster and takes away everything that the cluster left on the machine.
//
//	supervisor run STATE          start parts on request (JSON lines on standard input), stop all of them at its end
//	supervisor clean STATE        remove what a cluster left whose supervisor is dead
//	supervisor end STATE          end a cluster that runs detached; the same as clean for one that is dead
//	supervisor credentials DIR    write the keys and certificates of a new cluster
//	supervisor pause              hold the namespaces of a Pod, as the only program of the Pods' base image
//
// It is a program of its own because its parent, a test, may be killed at any moment: it notices by the end of its
// input. Should it be killed itself, the kernel kills the parts, and `clean` finds the rest by what was recorded.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

func init() {
	// Pdeathsig is bound to the thread that starts a part, not to the process. The main goroutine starts all parts
	// and keeps the main thread for itself, which lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "pause" {
		exit(pause())
	}
	if len(os.Args) != 3 {
		usage()
	}
	folder, err := filepath.Abs(os.Args[2])
	if err != nil {
		exit(err)
	}
	switch os.Args[1] {
	case "run":
		err = run(folder)
	case "clean":
		err = cleanDead(folder)
	case "end":
		err = endDetached(folder)
	case "credentials":
		err = writeCredentials(folder)
	default:
		usage()
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "supervisor: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: supervisor run|clean|end STATE, supervisor credentials DIR, or supervisor pause")
	os.Exit(2)
}
