import com.google.protobuf.ByteString;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.Message;
import com.google.protobuf.TextFormat;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.ProtoUtils;
import java.io.FileInputStream;
import java.net.URI;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Drives a server with grpc-java, on netty.
 *
 * <p>ETCD_ENDPOINT says where the server is, ETCD_DESCRIPTORS where the project's .proto files are, compiled by
 * protoc: messages are made of texts, without generated code. With the word {@code restart} it is about a server
 * that ends and comes back: when it prints {@code restart}, whoever runs it is to end the server kindly and start
 * it anew. (That pings may come too fast can't be asked of this library: it sends none more often than every ten
 * seconds.)
 */
class Suite {
    static final String PREFIX = "interop/java/";
    static final String AFTER = "interop/java0";
    static final long DEADLINE_MS = 20_000;
    static final int REQUEST_MAX = 2 * 1024 * 1024;

    interface Test {
        void run() throws Exception;
    }

    final Map<String, MethodDescriptor> methods = new HashMap<>();
    final Map<String, Descriptor> messages = new HashMap<>();
    final ManagedChannel channel;

    Suite(String endpoint, String descriptors) throws Exception {
        channel = ManagedChannelBuilder.forTarget(URI.create(endpoint).getAuthority())
            .usePlaintext().maxInboundMessageSize(64 << 20).build();
        Map<String, FileDescriptor> files = new HashMap<>();
        try (FileInputStream in = new FileInputStream(descriptors)) {
            for (FileDescriptorProto file : FileDescriptorSet.parseFrom(in).getFileList()) {
                FileDescriptor[] imports =
                    file.getDependencyList().stream().map(files::get).toArray(FileDescriptor[]::new);
                files.put(file.getName(), FileDescriptor.buildFrom(file, imports));
            }
        }
        for (FileDescriptor file : files.values()) {
            file.getMessageTypes().forEach(message -> messages.put(message.getName(), message));
            for (ServiceDescriptor service : file.getServices()) {
                service.getMethods().forEach(method -> methods.put(method.getName(), method));
            }
        }
    }

    /** A message of the type with that name, made of its text. */
    DynamicMessage message(String type, String text) throws Exception {
        DynamicMessage.Builder builder = DynamicMessage.newBuilder(messages.get(type));
        TextFormat.merge(text, builder);
        return builder.build();
    }

    /** A field of a field of … a message; numbers pick from lists. */
    static Object at(Object from, Object... path) {
        for (Object step : path) {
            from = step instanceof Integer n ? ((List<?>) from).get(n)
                : ((Message) from).getField(
                    ((Message) from).getDescriptorForType().findFieldByName((String) step));
        }
        return from;
    }

    static String text(Object bytes) {
        return ((ByteString) bytes).toStringUtf8();
    }

    /** How a stream ended. */
    record End(Status status) {}

    /** A call that is open, and what came of it so far: messages, and then its end. */
    static class Stream<Q, A> {
        final ClientCall<Q, A> call;
        final BlockingQueue<Object> incoming = new LinkedBlockingQueue<>();

        Stream(ClientCall<Q, A> call, Metadata metadata) {
            this.call = call;
            call.start(new ClientCall.Listener<A>() {
                @Override public void onMessage(A message) {
                    incoming.add(message);
                    call.request(1);
                }

                @Override public void onClose(Status status, Metadata trailers) {
                    incoming.add(new End(status));
                }
            }, metadata);
            call.request(2);
        }

        Stream<Q, A> send(Q message) {
            call.sendMessage(message);
            return this;
        }

        Object next() throws InterruptedException {
            Object next = incoming.poll(DEADLINE_MS, TimeUnit.MILLISECONDS);
            if (next == null) throw new AssertionError("nothing came in time");
            return next;
        }

        /** The next message. */
        Object message() throws InterruptedException {
            Object next = next();
            if (next instanceof End end) throw end.status().asRuntimeException();
            return next;
        }

        /** How it ends. */
        Status end() throws InterruptedException {
            Object next = next();
            while (!(next instanceof End)) next = next();
            return ((End) next).status();
        }
    }

    Stream<DynamicMessage, DynamicMessage> open(String name, CallOptions options, Metadata metadata) {
        MethodDescriptor method = methods.get(name);
        var type = method.isClientStreaming() ? io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING
            : method.isServerStreaming() ? io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING
            : io.grpc.MethodDescriptor.MethodType.UNARY;
        var descriptor = io.grpc.MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder().setType(type)
            .setFullMethodName(method.getService().getFullName() + "/" + name)
            .setRequestMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getInputType())))
            .setResponseMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(method.getOutputType())))
            .build();
        return new Stream<>(channel.newCall(descriptor, options), metadata);
    }

    /** A call of one message, sent. */
    Stream<DynamicMessage, DynamicMessage> start(String name, String request, CallOptions options) throws Exception {
        var stream = open(name, options, new Metadata());
        stream.call.setMessageCompression(true);
        stream.send(message(methods.get(name).getInputType().getName(), request)).call.halfClose();
        return stream;
    }

    Object call(String name, String request) throws Exception {
        return call(name, request, CallOptions.DEFAULT);
    }

    Object call(String name, String request, CallOptions options) throws Exception {
        var stream = start(name, request, options);
        Object answer = stream.message();
        equal(stream.end().getCode(), Status.Code.OK);
        return answer;
    }

    static String keyed(String name) {
        return "key: '" + PREFIX + name + "' ";
    }

    Object put(String name, String value) throws Exception {
        return call("Put", keyed(name) + "value: '" + value + "'");
    }

    List<?> get(String name) throws Exception {
        return (List<?>) at(call("Range", keyed(name)), "kvs");
    }

    Stream<DynamicMessage, DynamicMessage> watch(String name, CallOptions options) throws Exception {
        var stream = open("Watch", options, new Metadata());
        stream.call.setMessageCompression(true);
        stream.send(message("WatchRequest", "create_request { " + keyed(name) + "}"));
        equal(at(stream.message(), "created"), true);
        return stream;
    }

    long grant() throws Exception {
        return (long) at(call("LeaseGrant", "TTL: 30"), "ID");
    }

    void works() throws Exception {
        put("works", "1");
        equal(text(at(get("works"), 0, "value")), "1");
    }

    /** Waits until so many keys begin with the prefix; the test's deadline is this one's. */
    void counts(String prefix, String end, long n) throws Exception {
        String keys = keyed(prefix) + "range_end: '" + PREFIX + end + "' count_only: true";
        while ((long) at(call("Range", keys), "count") != n) Thread.sleep(10);
    }

    /** Puts n keys prefix0 …, a hundred to a transaction; each holds its number, filled up to a size. */
    void fill(String prefix, int n, int size) throws Exception {
        for (int first = 0; first < n; first += 100) {
            StringBuilder puts = new StringBuilder();
            for (int i = first; i < first + 100; i++) {
                String value = (i + " ".repeat(size)).substring(0, Math.max(size, String.valueOf(i).length()));
                puts.append("success { request_put { " + keyed(prefix + i) + "value: '" + value + "' } }\n");
            }
            call("Txn", puts.toString());
        }
    }

    static void equal(Object got, Object expected) {
        if (!got.equals(expected)) throw new AssertionError("got " + got + ", not " + expected);
    }

    static void refused(Status status, Status.Code code, String text) {
        equal(status.getCode(), code);
        if (text != null) equal(status.getDescription(), text);
    }

    void refused(String name, String request, Status.Code code, String text) throws Exception {
        refused(start(name, request, CallOptions.DEFAULT).end(), code, text);
    }

    void putsAndGets() throws Exception {
        Object put = put("a", "1");
        Object pair = at(get("a"), 0);
        equal(text(at(pair, "value")), "1");
        equal(at(pair, "mod_revision"), at(put, "header", "revision"));
        Object deleted = call("DeleteRange", keyed("a") + "prev_kv: true");
        equal(at(deleted, "deleted"), 1L);
        equal(text(at(deleted, "prev_kvs", 0, "value")), "1");
        equal(get("a").size(), 0);
    }

    void transactions() throws Exception {
        String txn = "compare { " + keyed("t") + "target: VERSION result: EQUAL version: 0 }"
            + "success { request_put { " + keyed("t") + "value: 'new' } } failure { request_range { " + keyed("t") + "} }";
        equal(at(call("Txn", txn), "succeeded"), true);
        Object second = call("Txn", txn);
        equal(at(second, "succeeded"), false);
        equal(text(at(second, "responses", 0, "response_range", "kvs", 0, "value")), "new");
    }

    void refusals() throws Exception {
        refused("Range", "", Status.Code.INVALID_ARGUMENT, "etcdserver: key is not provided");
        refused("Put", keyed("x") + "lease: 4711", Status.Code.NOT_FOUND, "etcdserver: requested lease not found");
        long revision = (long) at(put("c", "1"), "header", "revision");
        put("c", "2");
        call("Compact", "revision: " + (revision + 1));
        refused("Range", keyed("c") + "revision: " + revision, Status.Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted");
        refused(unheard("etcdserverpb.KV/Nothing"), Status.Code.UNIMPLEMENTED,
            "unknown method Nothing for service etcdserverpb.KV");
        refused(unheard("a.B/C"), Status.Code.UNIMPLEMENTED, "unknown service a.B");
    }

    /** How a call of a method that isn't there ends. */
    Status unheard(String path) throws Exception {
        var empty = ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(messages.get("RangeRequest")));
        var descriptor = io.grpc.MethodDescriptor.newBuilder(empty, empty)
            .setType(io.grpc.MethodDescriptor.MethodType.UNARY).setFullMethodName(path).build();
        var stream = new Stream<>(channel.newCall(descriptor, CallOptions.DEFAULT), new Metadata());
        stream.send(message("RangeRequest", "")).call.halfClose();
        return stream.end();
    }

    /** The client's clock and the server's run to the same deadline: a server that is first resets the stream. */
    static void outOfTime(Status status) {
        if (status.getCode() != Status.Code.CANCELLED) equal(status.getCode(), Status.Code.DEADLINE_EXCEEDED);
    }

    void deadlines() throws Exception {
        long[] leases = {grant(), grant()};
        String name = "name: '" + PREFIX + "lock' lease: ";
        call("Lock", name + leases[0]);
        var second = start("Lock", name + leases[1], CallOptions.DEFAULT.withDeadlineAfter(300, TimeUnit.MILLISECONDS));
        outOfTime(second.end());
        // Long enough for a busy server to begin the watch.
        var watch = watch("quiet", CallOptions.DEFAULT.withDeadlineAfter(3, TimeUnit.SECONDS));
        outOfTime(watch.end());
        for (long lease : leases) call("LeaseRevoke", "ID: " + lease);
        works();
    }

    void cancellation() throws Exception {
        var watch = watch("cancelled", CallOptions.DEFAULT);
        watch.call.cancel("enough", null);
        refused(watch.end(), Status.Code.CANCELLED, null);
        String name = "name: '" + PREFIX + "c' lease: ";
        String first = text(at(call("Lock", name + grant()), "key"));
        var waiting = start("Lock", name + grant(), CallOptions.DEFAULT);
        counts("c/", "c0", 2);
        waiting.call.cancel("enough", null);
        refused(waiting.end(), Status.Code.CANCELLED, null);
        counts("c/", "c0", 1); // Whoever gives up leaves the queue.
        call("Unlock", "key: '" + first + "'");
        works();
    }

    void snapshot() throws Exception {
        var stream = start("Snapshot", "", CallOptions.DEFAULT);
        ByteString whole = ByteString.EMPTY;
        for (Object next = stream.next(); !(next instanceof End); next = stream.next()) {
            whole = whole.concat((ByteString) at(next, "blob"));
        }
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(whole.substring(0, whole.size() - 32).toByteArray());
        equal(ByteString.copyFrom(digest), whole.substring(whole.size() - 32));
    }

    void streamedRange() throws Exception {
        fill("r", 500, 1000);
        var stream = start("RangeStream", keyed("r") + "range_end: '" + PREFIX + "s'", CallOptions.DEFAULT);
        int n = 0;
        Object last = null;
        for (Object next = stream.next(); !(next instanceof End); next = stream.next()) {
            last = at(next, "range_response");
            n += ((List<?>) at(last, "kvs")).size();
        }
        equal(n, 500);
        equal(at(last, "count"), 500L);
    }

    void manyEvents() throws Exception {
        var stream = open("Watch", CallOptions.DEFAULT, new Metadata());
        stream.send(message("WatchRequest", "create_request { " + keyed("w") + "range_end: '" + PREFIX + "x' }"));
        equal(at(stream.message(), "created"), true);
        fill("w", 1000, 0);
        int n = 0;
        while (n < 1000) {
            for (Object event : (List<?>) at(stream.message(), "events")) {
                equal(text(at(event, "kv", "value")), String.valueOf(n++));
            }
        }
        stream.call.cancel("enough", null);
    }

    void keepAlive() throws Exception {
        long lease = grant();
        var stream = open("LeaseKeepAlive", CallOptions.DEFAULT, new Metadata());
        for (int i = 0; i < 3; i++) {
            Object answer = stream.send(message("LeaseKeepAliveRequest", "ID: " + lease)).message();
            equal(at(answer, "ID"), lease);
            equal(at(answer, "TTL"), 30L);
        }
        stream.call.halfClose();
        equal(stream.end().getCode(), Status.Code.OK);
    }

    void largeMessages() throws Exception {
        put("large", "x".repeat(1_500_000));
        equal(((ByteString) at(get("large"), 0, "value")).size(), 1_500_000);
        // A key's tag and length, the value's tag, and three bytes of its length.
        int overhead = 2 + PREFIX.length() + 1 + 1 + 3;
        String sized = keyed("l") + "value: '" + "x".repeat(REQUEST_MAX - overhead);
        refused("Put", sized + "'", Status.Code.INVALID_ARGUMENT, "etcdserver: request is too large");
        refused("Put", sized + "x'", Status.Code.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (" + (REQUEST_MAX + 1) + " vs. " + REQUEST_MAX + ")");
        works();
    }

    void metadata() throws Exception {
        byte[] all = new byte[256];
        for (int i = 0; i < all.length; i++) all[i] = (byte) i;
        Metadata[] kinds = {new Metadata(), new Metadata(), new Metadata(), new Metadata(), new Metadata()};
        kinds[0].put(ascii("hasleader"), "true");
        kinds[1].put(ascii("x-unknown"), "1");
        kinds[1].put(ascii("x-unknown"), "2");
        kinds[2].put(Metadata.Key.of("x-anything-bin", Metadata.BINARY_BYTE_MARSHALLER), all);
        kinds[3].put(ascii("client-api-version"), "3.7.1");
        kinds[3].put(ascii("token"), "x");
        kinds[4].put(ascii("x-long"), "x".repeat(4000));
        for (Metadata kind : kinds) {
            var stream = open("Range", CallOptions.DEFAULT, kind);
            stream.send(message("RangeRequest", keyed("nothing"))).call.halfClose();
            equal(at(stream.message(), "count"), 0L);
        }
    }

    static Metadata.Key<String> ascii(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }

    void compression() throws Exception {
        CallOptions gzip = CallOptions.DEFAULT.withCompression("gzip");
        String value = "compress me ".repeat(50_000);
        call("Put", keyed("z") + "value: '" + value + "'", gzip);
        equal(text(at(call("Range", keyed("z"), gzip), "kvs", 0, "value")), value);
        var watch = watch("zz", gzip);
        put("zz", value);
        equal(text(at(watch.message(), "events", 0, "kv", "value")), value);
        watch.call.cancel("enough", null);
        var bomb = start("Put", keyed("z") + "value: '" + "x".repeat(16 << 20) + "'", gzip);
        refused(bomb.end(), Status.Code.RESOURCE_EXHAUSTED, null);
        works();
    }

    void manyStreams() throws Exception {
        List<Stream<DynamicMessage, DynamicMessage>> watches = new ArrayList<>();
        List<Stream<DynamicMessage, DynamicMessage>> gets = new ArrayList<>();
        for (int i = 0; i < 1000; i++) {
            var stream = open("Watch", CallOptions.DEFAULT, new Metadata());
            watches.add(stream.send(message("WatchRequest", "create_request { " + keyed("m" + i) + "}")));
            gets.add(start("Range", keyed("nothing"), CallOptions.DEFAULT));
        }
        for (var get : gets) equal(at(get.message(), "count"), 0L);
        for (var watch : watches) equal(at(watch.message(), "created"), true);
        fill("m", 1000, 0);
        for (int i = 0; i < 1000; i++) {
            equal(text(at(watches.get(i).message(), "events", 0, "kv", "value")), String.valueOf(i));
            watches.get(i).call.cancel("enough", null);
        }
    }

    void restart() throws Exception {
        put("kept", "1");
        var watch = watch("quiet", CallOptions.DEFAULT);
        System.out.println("restart");
        refused(watch.end(), Status.Code.UNAVAILABLE, null);
        Object got = call("Range", keyed("kept"), CallOptions.DEFAULT.withWaitForReady());
        equal(text(at(got, "kvs", 0, "value")), "1");
    }

    Map<String, Test> tests(boolean restarting) {
        Map<String, Test> tests = new LinkedHashMap<>();
        if (restarting) {
            tests.put("a server that ends says goodbye and is found again", this::restart);
            return tests;
        }
        tests.put("a key is put, read and deleted", this::putsAndGets);
        tests.put("a transaction compares and branches", this::transactions);
        tests.put("refusals have etcd's codes and words", this::refusals);
        tests.put("deadlines end calls that wait", this::deadlines);
        tests.put("a call can be cancelled", this::cancellation);
        tests.put("a snapshot is streamed whole", this::snapshot);
        tests.put("a range is streamed", this::streamedRange);
        tests.put("a watch tells a thousand changes in order", this::manyEvents);
        tests.put("a lease is kept alive", this::keepAlive);
        tests.put("large messages pass up to the limit", this::largeMessages);
        tests.put("metadata of all kinds is taken", this::metadata);
        tests.put("compressed requests are read", this::compression);
        tests.put("a thousand streams share a connection", this::manyStreams);
        return tests;
    }

    public static void main(String[] words) throws Exception {
        Suite suite = new Suite(System.getenv("ETCD_ENDPOINT"), System.getenv("ETCD_DESCRIPTORS"));
        var tests = suite.tests(Arrays.asList(words).contains("restart"));
        var executor = Executors.newCachedThreadPool();
        int failed = 0;
        for (var test : tests.entrySet()) {
            Future<?> done = executor.submit(() -> {
                suite.call("DeleteRange", "key: '" + PREFIX + "' range_end: '" + AFTER + "'");
                test.getValue().run();
                return null;
            });
            try {
                done.get(DEADLINE_MS, TimeUnit.MILLISECONDS);
                System.out.println("ok     " + test.getKey());
            } catch (Exception error) {
                failed++;
                Throwable why = error.getCause() == null ? error : error.getCause();
                System.out.println("FAILED " + test.getKey() + ": " + why);
            }
        }
        System.out.println((tests.size() - failed) + " passed, " + failed + " failed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
