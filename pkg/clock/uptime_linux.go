package clock

import "golang.org/x/sys/unix"

func uptime() int64 { return read(unix.CLOCK_BOOTTIME) }
