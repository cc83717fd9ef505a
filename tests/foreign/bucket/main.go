// Serves one bucket in memory as S3 does, signatures checked; see ../README.md for what it says and hears.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

// Most objects that one answer lists.
const most = 1000

type event struct {
	Event   string   `json:"event"`
	Address string   `json:"address,omitempty"`
	Objects []string `json:"objects"`
	// Uploads in parts that are neither whole nor given up.
	Open int64 `json:"open"`
}

type command struct {
	Show *struct{} `json:"show"`
	// The HTTP status that every request gets from now on; 0 serves again.
	Fail *int64 `json:"fail"`
}

func main() {
	bucket := flag.String("bucket", "", "name of the bucket")
	key := flag.String("key", "", "id of the access key")
	secret := flag.String("secret", "", "the access key")
	flag.Parse()
	if err := run(*bucket, *key, *secret); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(bucket, key, secret string) error {
	ctx := context.Background()
	store := s3mem.New()
	if err := store.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	keys := map[string]string{key: secret}
	server := gofakes3.New(store, gofakes3.WithV4Auth(keys), gofakes3.WithGlobalLog()).Server()
	var open, fail atomic.Int64
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if status := fail.Load(); status != 0 {
			answer.WriteHeader(int(status))
			return
		}
		seen := &seen{ResponseWriter: answer, status: http.StatusOK}
		server.ServeHTTP(seen, request)
		query := request.URL.Query()
		if seen.status/100 != 2 {
			return
		}
		switch {
		case request.Method == http.MethodPost && query.Has("uploads"):
			open.Add(1)
		case query.Has("uploadId") && request.Method != http.MethodPut:
			open.Add(-1)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say := json.NewEncoder(os.Stdout)
	if err := say.Encode(event{Event: "listening", Address: listener.Addr().String()}); err != nil {
		return err
	}
	go http.Serve(listener, handler)

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		if asked.Fail != nil {
			fail.Store(*asked.Fail)
		}
		found, err := store.ListBucket(ctx, bucket, nil, gofakes3.ListBucketPage{MaxKeys: most})
		if err != nil {
			return err
		}
		shown := event{Event: "shown", Objects: []string{}, Open: open.Load()}
		for _, object := range found.Contents {
			shown.Objects = append(shown.Objects, object.Key)
		}
		if err := say.Encode(shown); err != nil {
			return err
		}
	}
	return lines.Err()
}

// An answer that remembers its status.
type seen struct {
	http.ResponseWriter
	status int
}

func (s *seen) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}
