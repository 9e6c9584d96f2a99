package audience_test

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hongyan-dispatch/hongyan/internal/audience"
)

func ExampleReader() {
	file := "openid,name\noA1,陈一\noB2\noC3,\"李,二\"\n"
	r, err := audience.Open("users.csv", strings.NewReader(file), audience.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	fmt.Println(r.Columns())
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if _, refused := errors.AsType[*audience.Refused](err); refused {
			fmt.Println(err) // and on to the next one
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(row.Line, row.OpenID, row.Vars)
	}
	// Output:
	// [name]
	// 2 oA1 [陈一]
	// line 3: want 2 columns, got 1
	// 4 oC3 [李,二]
}
