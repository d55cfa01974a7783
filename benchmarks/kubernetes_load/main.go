// A client of the Kubernetes API that costs next to nothing, so that it is not what is measured: prepared bytes out,
// framing in, over kept connections. One line of JSON is the result.
//
//	load -url https://host:port -token T -path /api/v1/… [-c 8] [-t 3] [-mode get|watch|idle|post|patch]
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	target  = flag.String("url", "", "scheme, host and port")
	token   = flag.String("token", "", "bearer token")
	path    = flag.String("path", "/api/v1/namespaces/default", "path and query; %d is a number that counts")
	conns   = flag.Int("c", 1, "connections")
	seconds = flag.Float64("t", 3, "seconds")
	mode    = flag.String("mode", "get", "get, watch, idle, post, patch")
	body    = flag.String("body", "", "body of post and patch; %d is a number that counts")
	count   = flag.Int("n", 0, "requests of post and patch in all; 0: as many as fit")
	kind    = flag.String("type", "application/json", "Content-Type of the body")
	accept  = flag.String("accept", "application/json", "Accept")
	mark    = flag.String("mark", "bench-at", "watch: the annotation with the time of the change, in nanoseconds")
)

type connection struct {
	net.Conn
	reader *bufio.Reader
}

func dial() *connection {
	to, err := url.Parse(*target)
	check(err)
	raw, err := net.Dial("tcp", to.Host)
	check(err)
	if to.Scheme == "https" {
		secure := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		check(secure.Handshake())
		raw = secure
	}
	size := 65536
	if *mode == "idle" {
		size = 4096
	}
	return &connection{raw, bufio.NewReaderSize(raw, size)}
}

func head(method, path string, length int) []byte {
	var made bytes.Buffer
	fmt.Fprintf(&made, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: %s\r\n", method, path, strings.SplitN(*target, "//", 2)[1], *accept)
	if *token != "" {
		fmt.Fprintf(&made, "Authorization: Bearer %s\r\n", *token)
	}
	if length > 0 {
		fmt.Fprintf(&made, "Content-Type: %s\r\nContent-Length: %d\r\n", *kind, length)
	}
	made.WriteString("\r\n")
	return made.Bytes()
}

// response reads a head; length is -1 for a chunked body.
func (c *connection) head() (status int, length int) {
	length = -1
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		check(err)
		if first {
			status, _ = strconv.Atoi(string(line[9:12]))
			continue
		}
		if len(line) <= 2 {
			return
		}
		if len(line) > 16 && (line[0]|32) == 'c' && bytes.EqualFold(line[:15], []byte("content-length:")) {
			length, _ = strconv.Atoi(strings.TrimSpace(string(line[15:])))
		}
	}
}

func (c *connection) body(length int) (read int) {
	if length >= 0 {
		_, err := c.reader.Discard(length)
		check(err)
		return length
	}
	for {
		size := c.chunk()
		_, err := c.reader.Discard(size + 2)
		check(err)
		if size == 0 {
			return
		}
		read += size
	}
}

func (c *connection) chunk() int {
	line, err := c.reader.ReadSlice('\n')
	check(err)
	size, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 32)
	check(err)
	return int(size)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type result struct {
	Count    int     `json:"count"`
	Errors   int     `json:"errors"`
	Bytes    int     `json:"bytes"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Statuses string  `json:"first_error"`
}

func report(latencies [][]time.Duration, errors, bytes int64, took time.Duration, first string) {
	var all []time.Duration
	for _, each := range latencies {
		all = append(all, each...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	found := result{Count: len(all), Errors: int(errors), Bytes: int(bytes), Seconds: took.Seconds(), Statuses: first}
	if len(all) > 0 {
		found.P50, found.P99 = all[len(all)/2].Seconds(), all[len(all)*99/100].Seconds()
	}
	check(json.NewEncoder(os.Stdout).Encode(found))
}

func requests() {
	methods := map[string]string{"get": "GET", "post": "POST", "patch": "PATCH"}
	method := methods[*mode]
	latencies := make([][]time.Duration, *conns)
	var errors, transferred, number atomic.Int64
	var first atomic.Value
	first.Store("")
	var ready, done sync.WaitGroup
	begin := make(chan time.Time)
	ready.Add(*conns)
	done.Add(*conns)
	for at := 0; at < *conns; at++ {
		go func(at int) {
			defer done.Done()
			c := dial()
			fixed := head(method, *path, 0)
			ready.Done()
			start, open := <-begin
			_ = open
			end := start.Add(time.Duration(*seconds * float64(time.Second)))
			for {
				data := fixed
				if method != "GET" || strings.Contains(*path, "%d") {
					n := number.Add(1)
					if *count > 0 && n > int64(*count) {
						return
					}
					text := strings.ReplaceAll(*body, "%d", strconv.FormatInt(n, 10))
					text = strings.ReplaceAll(text, "%t", strconv.FormatInt(time.Now().UnixNano(), 10))
					data = append(head(method, strings.ReplaceAll(*path, "%d", strconv.FormatInt(n, 10)), len(text)), text...)
				}
				from := time.Now()
				if *count == 0 && from.After(end) {
					return
				}
				_, err := c.Write(data)
				check(err)
				status, length := c.head()
				if status >= 300 {
					errors.Add(1)
					text := make([]byte, max(0, min(length, 300)))
					io.ReadFull(c.reader, text)
					c.body(length - len(text))
					first.CompareAndSwap("", fmt.Sprintf("%d %s", status, text))
				} else {
					transferred.Add(int64(c.body(length)))
				}
				latencies[at] = append(latencies[at], time.Since(from))
			}
		}(at)
	}
	ready.Wait()
	from := time.Now()
	for at := 0; at < *conns; at++ {
		begin <- from
	}
	done.Wait()
	report(latencies, errors.Load(), transferred.Load(), time.Since(from), first.Load().(string))
}

// watches reports, once standard input ends, how long after its time an event came.
func watches() {
	latencies := make([][]time.Duration, *conns)
	var ready sync.WaitGroup
	var over atomic.Bool
	var lock sync.Mutex
	ready.Add(*conns)
	wanted := []byte("\"" + *mark + "\":\"")
	for at := 0; at < *conns; at++ {
		go func(at int) {
			c := dial()
			_, err := c.Write(head("GET", *path, 0))
			check(err)
			status, _ := c.head()
			if status != 200 {
				fmt.Fprintln(os.Stderr, "status", status)
				os.Exit(1)
			}
			ready.Done()
			if *mode == "idle" {
				select {}
			}
			var seen []byte
			for {
				size := c.chunk()
				if size == 0 {
					return
				}
				piece := make([]byte, size+2)
				_, err := io.ReadFull(c.reader, piece)
				if over.Load() {
					return
				}
				check(err)
				now := time.Now()
				seen = append(seen, piece[:size]...)
				for {
					cut := bytes.IndexByte(seen, '\n')
					if cut < 0 {
						break
					}
					line := seen[:cut]
					if from := bytes.Index(line, wanted); from >= 0 {
						rest := line[from+len(wanted):]
						at64, _ := strconv.ParseInt(string(rest[:bytes.IndexByte(rest, '"')]), 10, 64)
						lock.Lock()
						latencies[at] = append(latencies[at], now.Sub(time.Unix(0, at64)))
						lock.Unlock()
					}
					seen = append(seen[:0], seen[cut+1:]...)
				}
			}
		}(at)
	}
	ready.Wait()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	over.Store(true)
	lock.Lock()
	report(latencies, 0, 0, 0, "")
}

func main() {
	flag.Parse()
	if *mode == "watch" || *mode == "idle" {
		watches()
	} else {
		requests()
	}
}
