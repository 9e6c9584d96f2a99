// Package client enqueues messages for WeChat Official Accounts from Go programs.
//
//	c, err := client.New(ctx, client.Options{Redis: "redis://127.0.0.1:6379/0", Database: "postgres://…"})
//	receipt, err := c.Enqueue(ctx, message.Message{
//		Account: "shop", Kind: message.Template, To: "oABC…", Key: "order-1001-paid",
//		Body: json.RawMessage(`{"template_id":"…","data":{"thing1":{"value":"…"}}}`),
//	})
//
// With a database a message is accepted when it is committed in Postgres: nothing but the loss of Postgres loses
// it. Without one it is handed over to Redis, as durable as that Redis until a worker's first write; the receipt
// says which.
//
// The one fact to know: after any error a message with a Key may be enqueued again, and is sent once. One without
// a Key may be enqueued again after [ErrUnavailable], which says that nothing was accepted; after [ErrInDoubt] it
// might be sent twice.
//
// A program that reaches neither Redis nor Postgres enqueues over a server's HTTP API, with the same methods and errors:
//
//	c, err := client.HTTP("https://hongyan.example.com", os.Getenv("HONGYAN_API_KEY"))
package client
