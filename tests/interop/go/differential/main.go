// Differential makes the same random calls of two servers with grpc-go, and compares what they answer:
// go run ./differential with ETCD_ENDPOINT and ETCD_REFERENCE set to servers whose stores are empty.
//
// Both live through the same history, so revisions, leases and hashes must be equal too. SEED says which
// history, CALLS how long it is. The first difference ends it, and is printed with the call that showed it.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A call may take so long, whatever it waits for.
const patience = 20 * time.Second

// What a server answered.
type outcome struct {
	code    codes.Code
	message string
	// What the header and the trailer held.
	header, trailer metadata.MD
	// All messages, as texts.
	said string
}

// A call that can be made of any server: it says what it is, and does it.
type call struct {
	name string
	// Whether the text of its error is a matter of taste.
	anyText bool
	make    func(ctx context.Context, c *grpc.ClientConn, options []grpc.CallOption) (string, error)
}

func main() {
	seed, calls := number("SEED", 1), number("CALLS", 1000)
	var servers [2]*grpc.ClientConn
	for i, name := range []string{"ETCD_ENDPOINT", "ETCD_REFERENCE"} {
		at, err := url.Parse(os.Getenv(name))
		if err == nil {
			servers[i], err = grpc.NewClient(at.Host, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
		}
		if err != nil {
			fmt.Println(name, err)
			os.Exit(1)
		}
	}
	g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 0)), revision: 1}
	codes := map[string]int{}
	for n := range calls {
		c := g.call()
		ours, theirs := both(servers, g, c)
		if !equal(c, ours, theirs) {
			fmt.Printf("FAILED call %d of SEED=%d: %.600s\n ours   %.1500s\n theirs %.1500s\n",
				n, seed, c.name, fmt.Sprint(ours), fmt.Sprint(theirs))
			os.Exit(1)
		}
		g.learn(theirs)
		codes[theirs.code.String()]++
	}
	fmt.Printf("%d calls answered alike: %v\n", calls, codes)
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// Makes the call of both servers at once, with the same metadata and compression.
func both(servers [2]*grpc.ClientConn, g *generator, c call) (outcome, outcome) {
	md := g.metadata()
	zipped := g.IntN(4) == 0
	answers := [2]chan outcome{make(chan outcome, 1), make(chan outcome, 1)}
	for i, server := range servers {
		go func() {
			ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), patience)
			defer cancel()
			var o outcome
			options := []grpc.CallOption{grpc.Header(&o.header), grpc.Trailer(&o.trailer)}
			if zipped {
				options = append(options, grpc.UseCompressor(gzip.Name))
			}
			var err error
			o.said, err = c.make(ctx, server, options)
			o.code, o.message = status.Code(err), status.Convert(err).Message()
			answers[i] <- o
		}()
	}
	return <-answers[0], <-answers[1]
}

func equal(c call, ours, theirs outcome) bool {
	same := ours.code == theirs.code && ours.said == theirs.said
	same = same && (c.anyText || ours.message == theirs.message)
	return same && fields(ours.header) == fields(theirs.header) && fields(ours.trailer) == fields(theirs.trailer)
}

// Metadata as a text, without what a server may choose for itself.
func fields(md metadata.MD) string {
	md = md.Copy()
	md.Delete("content-type") // etcd repeats what was asked for, to the letter.
	return fmt.Sprint(md)
}

// A message as a text, without what differs from server to server.
func text(m proto.Message) string {
	m = proto.Clone(m)
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		mask(h.GetHeader())
	}
	if txn, ok := m.(*pb.TxnResponse); ok {
		maskTxn(txn)
	}
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}
	if len(bytes) > 300 {
		return fmt.Sprintf("%T of %d bytes, %x", m, len(bytes), sum(bytes))
	}
	return fmt.Sprintf("%T %q", m, bytes)
}

func mask(h *pb.ResponseHeader) {
	if h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	}
}

func maskTxn(txn *pb.TxnResponse) {
	for _, r := range txn.Responses {
		if inner := r.GetResponseTxn(); inner != nil {
			mask(inner.Header)
			maskTxn(inner)
		}
	}
}
