package monitor

const sysMemfdCreate = 319 // not in package syscall
