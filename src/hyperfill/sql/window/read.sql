-- A window's rows, as they come or in an order.
SELECT {columns} FROM {relation} AS r WHERE {window} {order}
