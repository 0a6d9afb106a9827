"""The graph file of the matcher's int8 product. After a change: ``python -m tests.builders.int8_product`` writes it anew."""

from pathlib import Path

from onnx import ModelProto, TensorProto, checker, helper

FILE = Path(__file__).parents[2] / "matcher" / "int8_product.onnx"


def int8_product_model() -> ModelProto:
    """products (n, N) int32 = (rows (n, D) uint8 - 128) x probes (D, N) int8. Bytes without a sign first: only those are fast."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "probes", "zero"], ["products"])],
        "int8_product",
        [
            helper.make_tensor_value_info("rows", TensorProto.UINT8, ["n", "D"]),
            helper.make_tensor_value_info("probes", TensorProto.INT8, ["D", "N"]),
        ],
        [helper.make_tensor_value_info("products", TensorProto.INT32, ["n", "N"])],
        [helper.make_tensor("zero", TensorProto.UINT8, [], [128])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="sightline")
    checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    FILE.write_bytes(int8_product_model().SerializeToString())
