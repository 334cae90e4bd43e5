package main

import (
	"flag"
	"io"
	"net"
)

// copyMain is the yardstick of latency: a plain copy of bytes in both
// directions, two goroutines for each connection.
func copyMain(args []string) {
	fs := flag.NewFlagSet("copy", flag.ExitOnError)
	listen := fs.String("listen", "127.0.0.1:19000", "address to listen on")
	backend := fs.String("backend", "127.0.0.1:19001", "where the bytes go")
	fs.Parse(args)
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		fatal(err)
	}
	for {
		down, err := ln.Accept()
		if err != nil {
			fatal(err)
		}
		go copyBoth(down, *backend)
	}
}

func copyBoth(down net.Conn, backend string) {
	defer down.Close()
	up, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer up.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, down)
		up.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(down, up)
	down.(*net.TCPConn).CloseWrite()
	<-done
}
