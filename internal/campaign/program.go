package campaign

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A program is the text of one string that asks for more than columns.
type program struct {
	tmpl    *template.Template
	names   []string // of the columns that it asks for
	columns []int    // their places
	runs    sync.Pool
}

// A programRun is what one run needs.
type programRun struct {
	values map[string]string
	out    bounded
}

// program reads a text. Whatever does not depend on a recipient's values is found wrong here.
func (f functions) program(text string) (*program, error) {
	trees, err := parse.Parse("", text, "{{", "}}", f.names())
	if err != nil {
		return nil, errors.New(plainError(err))
	}
	if len(trees) != 1 {
		return nil, errors.New("{{define}} and {{block}} are not for campaigns")
	}
	c := checker{functions: f}
	if err := c.list(trees[""].Root); err != nil {
		return nil, err
	}
	p := &program{names: c.columns}
	p.tmpl, err = template.New("").Funcs(f.calls()).AddParseTree("", trees[""])
	return p, err
}

// plainError is the parser's error without its place, which counts lines of a string nobody sees as such.
func plainError(err error) string {
	text := strings.TrimPrefix(err.Error(), "template: ")
	if _, rest, found := strings.Cut(text, ": "); found {
		text = rest
	}
	return text
}

// bind finds the columns.
func (p *program) bind(columns []string) error {
	p.columns = make([]int, len(p.names))
	for i, name := range p.names {
		var err error
		if p.columns[i], err = columnOf(name, columns); err != nil {
			return err
		}
	}
	return nil
}

// run appends what the program says of a recipient, as it stands inside a JSON string.
func (p *program) run(dst []byte, to message.OpenID, vars []string) ([]byte, error) {
	r, _ := p.runs.Get().(*programRun)
	if r == nil {
		r = &programRun{values: make(map[string]string, len(p.names))}
	}
	defer p.runs.Put(r)
	for i, column := range p.columns {
		switch {
		case column == openID:
			r.values["openid"] = string(to)
		case column >= len(vars):
			return dst, tooFew(vars, column)
		default:
			r.values[p.names[i]] = vars[column]
		}
	}
	r.out = r.out[:0]
	if err := p.tmpl.Execute(&r.out, r.values); err != nil {
		if bad, ok := errors.AsType[valueError](err); ok {
			err = bad
		}
		return dst, err
	}
	if !utf8.Valid(r.out) {
		return dst, errors.New("a value is not UTF-8")
	}
	return appendEscaped(dst, r.out), nil
}

// bounded is what a program has written; it takes no more than a message may hold.
type bounded []byte

func (b *bounded) Write(text []byte) (int, error) {
	if len(*b)+len(text) > message.MaxBytes {
		return 0, errTooLong
	}
	*b = append(*b, text...)
	return len(text), nil
}

// A checker walks a template before its first run: it takes only what is in the list of functions, finds a call that
// could not be made, and collects columns.
type checker struct {
	functions
	columns []string
}

func (c *checker) list(l *parse.ListNode) error {
	if l == nil {
		return nil
	}
	for _, n := range l.Nodes {
		if err := c.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.TextNode, *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		_, err := c.pipe(n.Pipe)
		return err
	case *parse.IfNode:
		if _, err := c.pipe(n.Pipe); err != nil {
			return err
		}
		if err := c.list(n.List); err != nil {
			return err
		}
		return c.list(n.ElseList)
	}
	word, _, _ := strings.Cut(strings.Trim(n.String(), "{}"), " ")
	return fmt.Errorf("{{%s}} is not for campaigns; there are columns, functions and {{if}}", word)
}

// pipe checks {{a | b | c}} and says what it is.
func (c *checker) pipe(p *parse.PipeNode) (shape, error) {
	if len(p.Decl) > 0 {
		return 0, fmt.Errorf("{{%s}}: variables are not for campaigns", p)
	}
	var is shape
	for i, cmd := range p.Cmds {
		var err error
		if is, err = c.command(cmd, i > 0, is); err != nil {
			return 0, fmt.Errorf("{{%s}}: %w", p, err)
		}
	}
	return is, nil
}

// command checks one call, whose last argument may be what stands before the |.
func (c *checker) command(cmd *parse.CommandNode, piped bool, before shape) (shape, error) {
	name, isCall := cmd.Args[0].(*parse.IdentifierNode)
	if !isCall {
		if piped || len(cmd.Args) > 1 {
			return 0, fmt.Errorf("%s is no function", cmd.Args[0])
		}
		return c.operand(cmd, 0)
	}
	fn := c.functions.list[name.Ident]
	if name.Ident == "column" {
		return words, c.column(cmd, piped)
	}
	var given []shape
	for i := range cmd.Args[1:] {
		is, err := c.operand(cmd, i+1)
		if err != nil {
			return 0, err
		}
		given = append(given, is)
	}
	if piped {
		given = append(given, before)
	}
	if !fn.fits(len(given)) {
		return 0, fmt.Errorf("%s wants %d values, not %d", name.Ident, len(fn.args), len(given))
	}
	for i, is := range given {
		if err := c.takes(name.Ident, fn.arg(i), is, cmd.Args, i+1); err != nil {
			return 0, err
		}
	}
	return fn.says, nil
}

// takes says whether an argument is what a function wants there.
func (c *checker) takes(name string, want, is shape, args []parse.Node, i int) error {
	switch want {
	case anything:
		return nil
	case words:
		if is == words {
			return nil
		}
		return fmt.Errorf("%s wants a column or a text as value %d", name, i)
	case number:
		if n, ok := at(args, i).(*parse.NumberNode); ok && n.IsInt && n.Int64 >= 1 && n.Int64 <= message.MaxBytes {
			return nil
		}
		return fmt.Errorf("%s wants a whole number from 1 as value %d", name, i)
	}
	s, ok := at(args, i).(*parse.StringNode)
	if !ok {
		return fmt.Errorf("%s wants a layout in quotes as value %d", name, i)
	}
	return checkLayout(s.Text)
}

func at(args []parse.Node, i int) parse.Node {
	if i < len(args) {
		return args[i]
	}
	return nil
}

// operand checks one value of a call.
func (c *checker) operand(cmd *parse.CommandNode, i int) (shape, error) {
	switch n := cmd.Args[i].(type) {
	case *parse.FieldNode:
		return words, c.asks(n.Ident)
	case *parse.VariableNode: // $.name
		return words, c.asks(n.Ident[1:])
	case *parse.StringNode:
		return words, nil
	case *parse.NumberNode:
		return number, nil
	case *parse.BoolNode:
		return anything, nil
	case *parse.PipeNode:
		return c.pipe(n)
	case *parse.IdentifierNode:
		return 0, fmt.Errorf("put the call of %s in brackets", n.Ident)
	}
	return 0, fmt.Errorf("%s is no column, text or number", cmd.Args[i])
}

// asks notes a column.
func (c *checker) asks(path []string) error {
	if len(path) != 1 {
		return fmt.Errorf(".%s: a column's value has no fields", strings.Join(path, "."))
	}
	if !slices.Contains(c.columns, path[0]) {
		c.columns = append(c.columns, path[0])
	}
	return nil
}

// column turns {{column "order no"}} into what {{.name}} is.
func (c *checker) column(cmd *parse.CommandNode, piped bool) error {
	s, ok := at(cmd.Args, 1).(*parse.StringNode)
	if !ok || piped || len(cmd.Args) != 2 {
		return errors.New(`column wants a name in quotes, as in {{column "order no"}}`)
	}
	cmd.Args = []parse.Node{&parse.FieldNode{NodeType: parse.NodeField, Pos: s.Pos, Ident: []string{s.Text}}}
	return c.asks([]string{s.Text})
}
