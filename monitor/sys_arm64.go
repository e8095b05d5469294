package monitor

const sysMemfdCreate = 279 // not in package syscall
