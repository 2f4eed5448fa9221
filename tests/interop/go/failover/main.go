// Failover uses a cluster whose members come and go: ETCD_ENDPOINT names them, separated by commas.
//
// Whoever breaks the cluster writes a line after each thing done, and gets "ok" once everybody has got on
// with it since. At the end of the input all is looked at a last time.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	prefix   = "interop/failover/"
	deadline = 300 * time.Second
	// How long one attempt may take.
	patience = 5 * time.Second
	// Shorter than the whole, so that a lease nobody keeps alive is gone before the end.
	ttl = 4
	// Writes that show that writing goes on.
	progress = 20
)

type cluster struct {
	client  *clientv3.Client
	written atomic.Int64
	seen    atomic.Int64
	kept    atomic.Int64
	failed  chan error
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(os.Getenv("ETCD_ENDPOINT"), ","),
		DialTimeout: patience,
	})
	if err == nil {
		defer client.Close()
		err = (&cluster{client: client, failed: make(chan error, 8)}).run(ctx)
	}
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	fmt.Println("ended well")
}

func (c *cluster) run(ctx context.Context) error {
	first, err := c.client.Put(ctx, prefix+"first", "")
	if err != nil {
		return err
	}
	lease, err := c.hold(ctx)
	if err != nil {
		return err
	}
	mine, theirs, err := c.mutexes(ctx)
	if err != nil {
		return err
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan struct{})
	go c.watch(ctx, first.Header.Revision)
	go func() { c.write(writing); close(stopped) }()
	input := bufio.NewScanner(os.Stdin)
	for fmt.Println("ok"); input.Scan(); fmt.Println("ok") {
		if err := c.step(ctx, theirs); err != nil {
			return err
		}
	}
	stop()
	<-stopped
	return c.end(ctx, lease, mine, theirs)
}

// Write puts one number after the other, and reads each back. What was not answered is put again.
func (c *cluster) write(ctx context.Context) {
	last := int64(0)
	for n := int64(1); ctx.Err() == nil; n++ {
		put, err := again(ctx, func(ctx context.Context) (*clientv3.PutResponse, error) {
			return c.client.Put(ctx, prefix+"n", fmt.Sprint(n))
		})
		if err != nil {
			return
		}
		got, err := again(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
			return c.client.Get(ctx, prefix+"n")
		})
		if err != nil {
			return
		}
		revision := put.Header.Revision
		if revision <= last || got.Header.Revision < revision {
			c.failed <- fmt.Errorf("%d put at %d after %d, read at %d", n, revision, last,
				got.Header.Revision)
			return
		}
		if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != fmt.Sprint(n) {
			c.failed <- fmt.Errorf("%d put, and read: %v", n, got.Kvs)
			return
		}
		last = revision
		c.written.Store(n)
	}
}

// Watch expects each version of the number once, and no number before the one it follows.
func (c *cluster) watch(ctx context.Context, from int64) {
	version, revision, number := int64(0), int64(0), int64(0)
	events := c.client.Watch(ctx, prefix+"n", clientv3.WithRev(from))
	for response := range events {
		if err := response.Err(); err != nil {
			c.failed <- fmt.Errorf("the watch ended: %w", err)
			return
		}
		for _, event := range response.Events {
			var n int64
			fmt.Sscan(string(event.Kv.Value), &n)
			if event.Kv.Version != version+1 || event.Kv.ModRevision <= revision || n < number || n > number+1 {
				c.failed <- fmt.Errorf("after version %d at %d of %d came %v", version, revision,
					number, event.Kv)
				return
			}
			version, revision, number = event.Kv.Version, event.Kv.ModRevision, n
			c.seen.Store(n)
		}
	}
}

// Hold keeps a lease with a key alive.
func (c *cluster) hold(ctx context.Context) (clientv3.LeaseID, error) {
	lease, err := c.client.Grant(ctx, ttl)
	if err != nil {
		return 0, err
	}
	_, err = c.client.Put(ctx, prefix+"held", "", clientv3.WithLease(lease.ID))
	if err != nil {
		return 0, err
	}
	alive, err := c.client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return 0, err
	}
	go func() {
		for range alive {
			c.kept.Add(1)
		}
		if ctx.Err() == nil {
			c.failed <- errors.New("the lease was lost")
		}
	}()
	return lease.ID, nil
}

// Mutexes returns one that is locked and one that is not.
func (c *cluster) mutexes(ctx context.Context) (mine, theirs *concurrency.Mutex, err error) {
	mutex := func() (*concurrency.Mutex, error) {
		session, err := concurrency.NewSession(c.client, concurrency.WithTTL(2*ttl),
			concurrency.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		return concurrency.NewMutex(session, prefix+"mutex"), nil
	}
	if mine, err = mutex(); err != nil {
		return
	}
	if theirs, err = mutex(); err != nil {
		return
	}
	err = mine.Lock(ctx)
	return
}

// Step waits until writer, watcher and the keeping of the lease have got on, and tries the lock.
func (c *cluster) step(ctx context.Context, theirs *concurrency.Mutex) error {
	written, kept := c.written.Load(), c.kept.Load()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for c.written.Load() < written+progress || c.seen.Load() < written+progress || c.kept.Load() == kept {
		select {
		case err := <-c.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("stuck: %d written of %d, %d seen, kept alive %d times since %d",
				c.written.Load(), written+progress, c.seen.Load(), c.kept.Load(), kept)
		case <-look.C:
		}
	}
	_, err := again(ctx, func(ctx context.Context) (any, error) {
		err := theirs.TryLock(ctx)
		if err == nil {
			return nil, fatal{errors.New("two hold the mutex")}
		}
		if errors.Is(err, concurrency.ErrLocked) {
			err = nil
		}
		return nil, err
	})
	return err
}

func (c *cluster) end(ctx context.Context, lease clientv3.LeaseID, mine, theirs *concurrency.Mutex) error {
	left, err := c.client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if left.TTL <= 0 || len(left.Keys) != 1 {
		return fmt.Errorf("the lease has %v", left)
	}
	held, err := c.client.Get(ctx, prefix+"held")
	if err != nil {
		return err
	}
	if len(held.Kvs) != 1 || held.Kvs[0].Version != 1 {
		return fmt.Errorf("held: %v", held.Kvs)
	}
	if err := mine.Unlock(ctx); err != nil {
		return err
	}
	if err := theirs.Lock(ctx); err != nil {
		return err
	}
	select {
	case err := <-c.failed:
		return err
	default:
		return theirs.Unlock(ctx)
	}
}

// A fatal error is not tried again.
type fatal struct{ error }

// Again tries until there is an answer: members that go take their answers with them.
func again[T any](ctx context.Context, attempt func(context.Context) (T, error)) (T, error) {
	for {
		once, cancel := context.WithTimeout(ctx, patience)
		answer, err := attempt(once)
		cancel()
		if err == nil || ctx.Err() != nil || errors.As(err, new(fatal)) {
			return answer, err
		}
	}
}
