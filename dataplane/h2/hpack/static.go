package hpack

import "github.com/sluice-proxy/sluice/dataplane/h2/hdr"

// staticLen is the highest index of the static table.
const staticLen = 61

// staticValues are the values of the static table by index (RFC 7541
// appendix A); those not listed are empty.
var staticValues = [staticLen + 1]string{
	2: "GET", 3: "POST",
	4: "/", 5: "/index.html",
	6: "http", 7: "https",
	8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500",
	16: "gzip, deflate",
}

// staticTable is indexed from 1 as in RFC 7541 appendix A.
var staticTable = fillStatic()

// staticFirst is the first index of each name of the static table.
var staticFirst = fillStaticFirst()

// nameHashes holds the hash of every name that has an ID.
var nameHashes = fillNameHashes()

// staticName returns the name of a static entry. Four names have more than one
// entry; otherwise names follow each other in the order of their IDs.
func staticName(i int) hdr.ID {
	switch {
	case i == 1:
		return hdr.Authority
	case i <= 3:
		return hdr.Method
	case i <= 5:
		return hdr.Path
	case i <= 7:
		return hdr.Scheme
	case i <= 14:
		return hdr.Status
	}
	return hdr.AcceptCharset + hdr.ID(i-15)
}

func fillStatic() (t [staticLen + 1]Field) {
	for i := 1; i <= staticLen; i++ {
		id := staticName(i)
		name, value := id.String(), staticValues[i]
		h := hashName(name)
		t[i] = Field{
			Name: name, Value: value,
			hash: hashField(h, value), nameHash: h,
			ID: id, flag: flagRepeats | flagChecked, static: uint8(i),
		}
	}
	return t
}

func fillStaticFirst() (t [hdr.LastStatic + 1]uint8) {
	for i := staticLen; i >= 1; i-- {
		t[staticName(i)] = uint8(i)
	}
	return t
}

func fillNameHashes() (t [hdr.Count]uint32) {
	for id := hdr.ID(1); id < hdr.Count; id++ {
		t[id] = hashName(id.String())
	}
	return t
}

// staticIndex returns the static entry that is exactly this field, or 0.
func staticIndex(id hdr.ID, value string) uint8 {
	if id > hdr.LastStatic {
		return 0
	}
	for i := staticFirst[id]; i <= staticLen && staticTable[i].ID == id && i != 0; i++ {
		if staticTable[i].Value == value {
			return i
		}
	}
	return 0
}
